// A WebSocket's other end: each message runs it, and what it returns goes back on the socket.
package main

import "orama"

// Message is what a client sends: {"text": "Hello"}.
type Message struct {
	Text string `json:"text"`
}

// Reply is the `output` of what the client gets back.
type Reply struct {
	Text   string `json:"text"`
	Number int64  `json:"number"`
}

func main() { orama.Handle(answer) }

func answer(message Message) (Reply, error) {
	// In the namespace's cache, so that it counts the messages of all sockets.
	number := orama.Cache.Incr("messages")
	return Reply{Text: "You said: " + message.Text, Number: number}, nil
}
