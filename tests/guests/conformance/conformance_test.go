package main

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"orama/oramatest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	_ "orama/oramatest/sqlite"
)

var update = flag.Bool("update", false, "write testdata/answers.json")

const answersFile = "testdata/answers.json"

// exchange is a request, what was answered, and what was logged.
type exchange struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	Answer  answer            `json:"answer"`
	Logs    []string          `json:"logs"`
}

// answer is what a client gets. A body is JSON, text, or base64 of bytes.
type answer struct {
	Status  int                 `json:"status"`
	Headers map[string][]string `json:"headers"`
	JSON    json.RawMessage     `json:"json,omitempty"`
	Text    *string             `json:"text,omitempty"`
	Base64  string              `json:"base64,omitempty"`
	// IsWhole is false for one that was broken off.
	IsWhole bool `json:"is_whole"`
}

// requests are those of all cases.
func requests() []exchange {
	var all []exchange
	get := func(path string) { all = append(all, exchange{Method: "GET", Path: "/" + path}) }
	for _, group := range []map[string]func(*saw){databaseCases, serviceCases} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			get(name)
		}
	}
	for _, path := range []string{
		"unknown", "web-output/json", "web-output/text", "web-output/bytes", "web-output/none", "web-headers", "web-refused", "web-last",
		"web-stream", "web-broken", "web-fails/error", "web-fails/status", "web-fails/panic", "web-fails/exit", "web-sleep",
		"web-handler/hello/Ann%20B?q=%C3%A4", "web-handler/flush", "web-handler/none", "web-handler/panic", "web-handler/nothing",
		"web-request/a%2Fb/?x=1&x=2&y",
	} {
		get(path)
	}
	return append(all,
		exchange{Method: "POST", Path: "/web-request", Headers: map[string]string{
			"X-One": "1", "Content-Type": "text/plain", "Cookie": "zero=0; one=1"}, Body: "a body"},
		exchange{Method: "HEAD", Path: "/web-last"},
		exchange{Method: "HEAD", Path: "/web-stream"},
		exchange{Method: "POST", Path: "/web-handler/echo", Body: "to and fro"},
		exchange{Method: "DELETE", Path: "/web-handler/echo"},
	)
}

// stand answers what the cases fetch. Its twin is in the suite that runs on a node.
func stand(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Stand", "in")
	w.Header().Set("Content-Type", "text/plain")
	location := ""
	switch path := r.URL.RequestURI(); {
	case path == "/redirect":
		location = "/text"
	case path == "/loop":
		location = "/loop"
	case path == "/elsewhere":
		location = "ftp://example.org/"
	case strings.HasPrefix(path, "/to-echo/"):
		w.Header().Set("Location", "/echo")
		var status int
		fmt.Sscan(strings.TrimPrefix(path, "/to-echo/"), &status)
		w.WriteHeader(status)
		return
	case path == "/text":
		io.WriteString(w, "some text ä")
	case path == "/bytes":
		w.Write([]byte{0, 255})
	case path == "/empty":
	case path == "/500":
		w.WriteHeader(500)
		io.WriteString(w, "failed")
	case path == "/204":
		w.WriteHeader(204)
	default:
		fmt.Fprintf(w, "%s %s|%s|%s|%s|%s", r.Method, path, r.Header.Get("X-From"), r.Header.Get("Content-Type"), r.Header.Get("Authorization"), body)
	}
	if location != "" {
		w.Header().Set("Location", location)
		w.WriteHeader(302)
	}
}

// run runs a case on the fakes.
func run(t *testing.T, host *oramatest.Host, given exchange) exchange {
	t.Helper()
	request := httptest.NewRequest(given.Method, "http://functions.example"+given.Path, strings.NewReader(given.Body))
	for name, value := range given.Headers {
		request.Header.Set(name, value)
	}
	request.Header.Set("X-Stand", "http://stand.example")
	response := host.Do(main, request)
	body, err := io.ReadAll(response.Body)
	given.Answer = answer{Status: response.StatusCode, Headers: map[string][]string{}, IsWhole: err == nil}
	for name, values := range response.Header {
		if name != "X-Request-Id" {
			given.Answer.Headers[strings.ToLower(name)] = values
		}
	}
	text := strings.ReplaceAll(string(body), response.Header.Get("X-Request-Id"), "REQUEST")
	switch {
	case strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") && json.Valid(body):
		given.Answer.JSON = json.RawMessage(text)
	case strings.ToValidUTF8(text, "") == text:
		given.Answer.Text = &text
	default:
		given.Answer.Base64 = base64.StdEncoding.EncodeToString(body)
	}
	given.Logs = []string{}
	for _, log := range host.Logs() {
		if log.RequestID == response.Header.Get("X-Request-Id") {
			given.Logs = append(given.Logs, log.Level+": "+log.Message)
		}
	}
	return given
}

func TestTheFakesAnswerAsANode(t *testing.T) {
	host := oramatest.New(t)
	host.SetEnv("MY_VAR", "my value")
	host.SetSecret("S", "a secret")
	host.HandleHTTP(http.HandlerFunc(stand))
	host.HandleFunction("callee", func(input []byte) ([]byte, error) {
		result := host.Run(main, input)
		return result.Output, result.Err
	})
	var seen []exchange
	for _, given := range requests() {
		seen = append(seen, run(t, host, given))
	}
	text, err := json.MarshalIndent(seen, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(answersFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(answersFile)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []any
	if err := json.Unmarshal(kept, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for at, given := range seen {
		if at >= len(want) || !reflect.DeepEqual(want[at], got[at]) {
			t.Errorf("%s %s: the fakes answer otherwise than it is kept; compare after go test -update", given.Method, given.Path)
		}
	}
}
