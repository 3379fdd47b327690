// Command web answers as a web server would: a mux with path values, templates, regular expressions, JSON, and a goroutine that
// sleeps. With the build tag warmed it serves some requests to itself while a snapshot is being made.
package main

import (
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"time"
)

var (
	page = template.Must(template.New("page").Parse(
		`<html><body><h1>{{.Title}}</h1><ul>{{range .Items}}<li>{{.}}</li>{{end}}</ul></body></html>`))
	word = regexp.MustCompile(`^[a-zA-Z]+(-[a-z0-9]+)*$`)
)

func init() {
	go func() { time.Sleep(time.Hour) }()
}

type request struct {
	Path string `json:"path"`
	Name string `json:"name"`
}

type answer struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if !word.MatchString(name) {
			http.Error(w, "this is no name", http.StatusBadRequest)
			return
		}
		data := map[string]any{"Title": name, "Items": []string{"a", "b", "<c>"}}
		if err := page.Execute(w, data); err != nil {
			panic(err)
		}
	})
	return mux
}

func serve(handler http.Handler, input []byte) answer {
	var in request
	if err := json.Unmarshal(input, &in); err != nil {
		return answer{Status: http.StatusBadRequest, Body: err.Error()}
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest("GET", "/hello/"+in.Name, strings.NewReader("")))
	return answer{Status: recorder.Code, Body: recorder.Body.String()}
}

func main() {
	handler := handler()
	prepare(handler)
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	output, err := json.Marshal(serve(handler, input))
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(output)
}
