// Command calls does what its input says with other functions, topics and timers, by the Go SDK.
package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"orama"
	"os"
	"strconv"
	"time"
)

type request struct {
	Do    string          `json:"do"`
	Name  string          `json:"name"`  // invoke, async: the function
	Input json.RawMessage `json:"input"` // invoke, async: JSON that is its input
	Bytes string          `json:"bytes"` // invoke, async: base64 that is its input instead
	Topic string          `json:"topic"` // later, batch, outbox
	Data  json.RawMessage `json:"data"`  // later, batch, outbox: the message
	Ms    int64           `json:"ms"`    // later: the delay; sleep
	N     int             `json:"n"`     // batch: messages; down: calls below this one
	SQL   string          `json:"sql"`   // outbox: one statement
	Self  string          `json:"self"`  // down: the function's own name
}

func main() {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		orama.Fail(err)
	}
	var slot orama.Scheduled
	if json.Unmarshal(data, &slot) == nil && slot.TriggerID != "" {
		orama.LogInfo("slot " + slot.ScheduledAt.UTC().Format(time.RFC3339) + " of " + slot.Schedule)
		os.Exit(0)
	}
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		orama.Fail(err)
	}
	if err := do(r); err != nil {
		orama.Fail(err)
	}
}

func do(r request) error {
	switch r.Do {
	case "invoke":
		output, err := orama.Invoke(r.Name, input(r))
		var failed *orama.InvokeError
		if errors.As(err, &failed) {
			return orama.WriteOutput(map[string]any{
				"status": failed.Status, "code": failed.Code, "error": failed.Message, "run": failed.RequestID != "",
			})
		}
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(output)
		return err
	case "down": // calls itself until n is 0, and says how deep it came
		if r.N == 0 {
			return orama.WriteOutput(map[string]any{"depth": 0, "subject": orama.CallerSubject()})
		}
		var below struct {
			Depth   int    `json:"depth"`
			Subject string `json:"subject"`
			Error   string `json:"error"`
		}
		r.N--
		if err := orama.InvokeInto(&below, r.Self, r); err != nil {
			below.Error = err.Error()
		}
		below.Depth++
		return orama.WriteOutput(below)
	case "sleep":
		time.Sleep(time.Duration(r.Ms) * time.Millisecond)
		return orama.WriteOutput(map[string]any{"slept": r.Ms})
	case "async":
		return told(orama.InvokeAsync(r.Name, input(r)))
	case "later":
		return told(orama.PublishLater(r.Topic, r.Data, time.Duration(r.Ms)*time.Millisecond))
	case "batch":
		messages := make([]orama.Message, r.N)
		for i := range messages {
			messages[i] = orama.Message{Topic: r.Topic, Data: i}
		}
		return told(orama.PublishBatch(messages...))
	case "outbox":
		results, seq, committed, err := orama.ExecuteAndPublish(r.Topic, r.Data, orama.Exec(r.SQL))
		message := ""
		if err != nil {
			message = err.Error()
		}
		return orama.WriteOutput(map[string]any{
			"seq": seq, "committed": committed, "results": len(results), "error": message,
		})
	}
	return errors.New("unknown \"do\": " + strconv.Quote(r.Do))
}

func input(r request) any {
	if r.Bytes == "" {
		return r.Input
	}
	bytes, err := base64.StdEncoding.DecodeString(r.Bytes)
	if err != nil {
		orama.Fail(err)
	}
	return bytes
}

func told(err error) error {
	if err != nil {
		return orama.WriteOutput(map[string]any{"accepted": false, "error": err.Error()})
	}
	return orama.WriteOutput(map[string]any{"accepted": true})
}
