// A web service: its pages and its API are under /fn/<namespace>/<function>/.
package main

import (
	"encoding/json"
	"io"
	"net/http"
	"orama"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page)
	mux.HandleFunc("GET /hello/{name}", hello)
	orama.ServeHTTP(mux)
}

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, "<!doctype html><title>Hello</title><p>Ask for <a href=\"hello/Ann\">hello/Ann</a>.")
}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"message": "Hello, " + r.PathValue("name") + "!"})
}
