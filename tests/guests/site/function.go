// Command site answers HTTP requests with what a test asks for, through net/http's handlers.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"orama"
	"os"
	"strconv"
	"time"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<html><p>Hello, %s!</p></html>", r.PathValue("name"))
	})
	mux.HandleFunc("/request", request)
	mux.HandleFunc("/request/", request)
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("POST /hash", hash)
	mux.HandleFunc("POST /progress", func(w http.ResponseWriter, r *http.Request) {
		beginning := make([]byte, 100_000)
		io.ReadFull(r.Body, beginning)
		io.WriteString(w, "the beginning\n")
		w.(http.Flusher).Flush()
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(beginning), r.Body))
		hash(w, r)
	})
	mux.HandleFunc("GET /cookie", func(w http.ResponseWriter, r *http.Request) {
		seen := "none"
		if cookie, err := r.Cookie("session"); err == nil {
			seen = cookie.Value
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "abc", Path: "/", HttpOnly: true})
		http.SetCookie(w, &http.Cookie{Name: "theme", Value: "dark"})
		io.WriteString(w, seen)
	})
	mux.HandleFunc("GET /away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://example.com/there", http.StatusFound)
	})
	mux.HandleFunc("/status/{status}", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.PathValue("status"))
		w.WriteHeader(status)
		if r.Method != http.MethodHead && status != http.StatusNoContent {
			fmt.Fprintf(w, "status %d", status)
		}
	})
	mux.HandleFunc("GET /events", events)
	mux.HandleFunc("GET /bytes/{count}", func(w http.ResponseWriter, r *http.Request) {
		count, _ := strconv.Atoi(r.PathValue("count"))
		block := make([]byte, 64<<10)
		for index := range block {
			block[index] = byte(index % 251)
		}
		for at := 0; at < count; at += len(block) {
			if _, err := w.Write(block[:min(len(block), count-at)]); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /breaks", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "the beginning")
		w.(http.Flusher).Flush()
		os.Exit(3)
	})
	mux.HandleFunc("GET /fails", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "never sent")
		panic("as asked")
	})
	mux.HandleFunc("GET /cors", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", r.URL.Query().Get("origin"))
		w.Header().Set("Vary", "Accept, Origin")
		io.WriteString(w, "text")
	})
	mux.HandleFunc("GET /node-headers", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Request-Id", "X-Duration-Ms", "Content-Length", "Transfer-Encoding", "Connection", "X-Orama-Secret", "Proxy-Authenticate", "Upgrade", "Service-Worker-Allowed"} {
			w.Header().Set(name, "forged")
		}
		w.Header().Set("X-Own", "kept")
		io.WriteString(w, "text")
	})
	orama.ServeHTTP(mux)
}

// hash tells the length and the FNV-1a of the body.
func hash(w http.ResponseWriter, r *http.Request) {
	hash := fnv.New64a()
	length, err := io.Copy(hash, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "%d %016x", length, hash.Sum64())
}

// request tells what the handler sees.
func request(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	incoming, _ := orama.CurrentRequest()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "path": r.URL.Path, "query": r.URL.Query(), "host": r.Host, "headers": r.Header,
		"remote": r.RemoteAddr, "body": string(body), "length": r.ContentLength, "uri": r.RequestURI,
		"scheme": incoming.Scheme,
	})
}

// events sends three events with pauses, each with the time at which it was written.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for number := range 3 {
		fmt.Fprintf(w, "id: %d\ndata: %d\n\n", number, time.Now().UnixMicro())
		w.(http.Flusher).Flush()
		time.Sleep(100 * time.Millisecond)
	}
}
