package main

import (
	"encoding/json"
	"html/template"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
)

var (
	page = template.Must(template.New("page").Parse(
		`<html><body><h1>{{.Title}}</h1><ul>{{range .Items}}<li>{{.}}</li>{{end}}</ul></body></html>`))
	word = regexp.MustCompile(`^[a-zA-Z]+(-[a-z0-9]+)*$`)
)

// web is the guests' tests/guests/web.
func web() func([]byte) ([]byte, error) {
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
	return func(input []byte) ([]byte, error) {
		var request struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(input, &request); err != nil {
			return nil, err
		}
		recorder := httptest.NewRecorder()
		mux.ServeHTTP(recorder, httptest.NewRequest("GET", "/hello/"+request.Name, strings.NewReader("")))
		return json.Marshal(struct {
			Status int    `json:"status"`
			Body   string `json:"body"`
		}{recorder.Code, recorder.Body.String()})
	}
}
