// Command webhook takes signed deliveries: checks the signature, stores each once, and publishes it.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"orama"
	"strings"
)

const table = "CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, event TEXT NOT NULL, body TEXT NOT NULL)"

func main() {
	request, ok := orama.CurrentRequest()
	if !ok {
		orama.LogError("webhook answers HTTP requests alone")
		return
	}
	if err := deliver(request); err != nil {
		orama.Fail(err)
	}
}

func deliver(request *orama.HTTPRequest) error {
	if request.Method != "POST" {
		return orama.Error(405, "deliveries are POSTed")
	}
	body, err := orama.ReadInput()
	if err != nil {
		return err
	}
	secret := orama.Secret("WEBHOOK_SECRET")
	if secret == "" {
		return orama.Error(503, "the secret WEBHOOK_SECRET is not set")
	}
	if !isSigned(body, secret, request.Header("x-hub-signature-256")) {
		return orama.Error(401, "the signature is not right")
	}
	if !json.Valid(body) {
		return orama.Error(400, "the body is not JSON")
	}
	id, event := request.Header("x-github-delivery"), request.Header("x-github-event")
	if id == "" {
		return orama.Error(400, "the header X-GitHub-Delivery is missing")
	}
	if event == "" {
		event = "unknown"
	}
	results, _, err := orama.Transaction(
		orama.Exec(table),
		orama.Exec("INSERT INTO deliveries (id, event, body) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING", id, event, string(body)),
	)
	if err != nil {
		return err
	}
	isNew := results[1].RowsAffected == 1
	if isNew {
		if err := orama.Publish("webhook:"+event, json.RawMessage(body)); err != nil {
			return err
		}
	}
	return orama.RespondJSON(202, map[string]any{"id": id, "new": isNew})
}

func isSigned(body []byte, secret, signature string) bool {
	given, err := hex.DecodeString(strings.TrimPrefix(signature, "sha256="))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(mac.Sum(nil), given)
}
