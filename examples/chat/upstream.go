package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"orama"
)

// ask has the upstream complete a chat, and returns the text.
func ask(body []byte) (string, error) {
	response, err := orama.Fetch(orama.Request{
		Method: "POST",
		URL:    orama.Env("UPSTREAM"),
		Headers: map[string]string{
			"Content-Type":  "application/json",
			"Authorization": "Bearer " + orama.Secret("UPSTREAM_KEY"),
		},
		Body: body,
	})
	if err != nil {
		return "", err
	}
	if response.Status != 200 {
		return "", fmt.Errorf("the upstream answered %d", response.Status)
	}
	var answer completion
	if err := json.Unmarshal(response.Body, &answer); err != nil {
		return "", err
	}
	if len(answer.Choices) == 0 {
		return "", errors.New("the upstream gave no choice")
	}
	return answer.Choices[0].Message.Content, nil
}

func remembered(body []byte) (string, bool) {
	content, ok := orama.Cache.Get(key(body))
	return string(content), ok
}

func key(body []byte) string {
	sum := sha256.Sum256(body)
	return "chat:" + hex.EncodeToString(sum[:])
}
