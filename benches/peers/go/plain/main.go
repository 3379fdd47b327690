// Command plain answers what the guests answer, as native code without a sandbox: the yardstick.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
)

// What a node accepts as a body.
const maxBody = 1 << 20

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", answer(func(input []byte) ([]byte, error) { return input, nil }))
	for _, name := range []string{"tinygo-hello", "go-hello", "go-sdk-hello"} {
		mux.HandleFunc("POST /"+name, answer(hello))
	}
	for _, name := range []string{"go-web", "go-web-warmed"} {
		mux.HandleFunc("POST /"+name, answer(web()))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, mux))
}

func answer(function func([]byte) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		input, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		output, err := function(input)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(output)
	}
}

// hello is the guests' tests/guests/hello.
func hello(input []byte) ([]byte, error) {
	var request struct {
		Name string `json:"name"`
	}
	if len(input) > 0 {
		if err := json.Unmarshal(input, &request); err != nil {
			return nil, err
		}
	}
	if request.Name == "" {
		request.Name = "World"
	}
	return json.Marshal(map[string]any{"result": "Hello, " + request.Name + "!"})
}
