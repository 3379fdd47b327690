package main

import (
	"io"
	"net/http/httptest"
	"orama/oramatest"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	host := oramatest.New(t)
	for path, want := range map[string]string{"/": "<title>Hello</title>", "/hello/Ann": `{"message":"Hello, Ann!"}`} {
		response := host.Do(main, httptest.NewRequest("GET", path, nil))
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %s, %v", path, response.Status, body, err)
		}
	}
	if response := host.Do(main, httptest.NewRequest("GET", "/nothing", nil)); response.StatusCode != 404 {
		t.Errorf("/nothing: %s", response.Status)
	}
}
