// Command chat answers chat completions as a stream of events. It keeps the upstream's key, and remembers answers for a while.
package main

import (
	"encoding/json"
	"net/http"
	"orama"
	"strings"
	"time"
)

type completion struct {
	Choices []struct {
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
	} `json:"choices"`
}

type chunk struct {
	Object  string   `json:"object"`
	Choices []choice `json:"choices"`
}

type choice struct {
	Index int               `json:"index"`
	Delta map[string]string `json:"delta"`
}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", complete)
	orama.ServeHTTP(mux)
}

func complete(w http.ResponseWriter, r *http.Request) {
	var request map[string]any
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request["messages"] == nil {
		http.Error(w, "the body must be a chat completion with messages", http.StatusBadRequest)
		return
	}
	// A fetch gives whole answers; this function makes the stream.
	request["stream"] = false
	body, err := json.Marshal(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	content, ok := remembered(body)
	if !ok {
		if content, err = ask(body); err != nil {
			orama.LogError(err.Error())
			http.Error(w, "the upstream did not answer", http.StatusBadGateway)
			return
		}
		orama.Cache.Set(key(body), []byte(content), time.Hour)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	stream := http.NewResponseController(w)
	for _, word := range strings.SplitAfter(content, " ") {
		event, err := json.Marshal(chunk{"chat.completion.chunk", []choice{{0, map[string]string{"content": word}}}})
		if err != nil {
			return
		}
		if _, err := w.Write([]byte("data: " + string(event) + "\n\n")); err != nil {
			return // the client has gone
		}
		if err := stream.Flush(); err != nil {
			return
		}
	}
	w.Write([]byte("data: [DONE]\n\n"))
}
