package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"orama/oramatest"
	"strings"
	"testing"

	// The database of the tests: `go mod tidy` fetches its driver.
	_ "orama/oramatest/sqlite"
)

func TestADeliveryIsStoredAndPublishedOnce(t *testing.T) {
	host := oramatest.New(t)
	host.SetSecret("WEBHOOK_SECRET", "secret")
	const body = `{"action":"opened"}`
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write([]byte(body))
	signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	deliver := func(signature string) int {
		request := httptest.NewRequest("POST", "/", strings.NewReader(body))
		request.Header.Set("X-Hub-Signature-256", signature)
		request.Header.Set("X-GitHub-Delivery", "1")
		request.Header.Set("X-GitHub-Event", "issues")
		return host.Do(main, request).StatusCode
	}
	for given, want := range map[string]int{"": 401, "sha256=00": 401} {
		if status := deliver(given); status != want {
			t.Errorf("signature %q: %d", given, status)
		}
	}
	for range 2 {
		if status := deliver(signature); status != 202 {
			t.Errorf("a signed delivery: %d", status)
		}
	}
	published := host.Published()
	if len(published) != 1 || published[0].Topic != "webhook:issues" || string(published[0].Data) != body {
		t.Errorf("published: %+v", published)
	}
	if rows := host.Query("SELECT id, event FROM deliveries"); len(rows) != 1 || rows[0]["event"] != "issues" {
		t.Errorf("stored: %v", rows)
	}
}
