package orama

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

// Invoke runs another function of the namespace, "name" or "name@2", waits for it, and returns its output. The input is sent as
// it is if it is a []byte or a json.RawMessage, and as JSON else. The caller's identity and deadline go along; calls may be eight
// deep. An error is an *InvokeError where the other function did not run well, or was not run at all.
func Invoke(name string, input any) ([]byte, error) {
	payload, err := encodeInput(input)
	if err != nil {
		return nil, err
	}
	result := take(hostFunctionInvokeV2(ptr(name), size(name), ptr(payload), size(payload)))
	keep(name)
	keep(payload)
	return decodeInvoked(name, result)
}

// InvokeInto is Invoke for an output of JSON, which it reads into dest.
func InvokeInto(dest any, name string, input any) error {
	output, err := Invoke(name, input)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(output, dest); err != nil {
		return failure("the output of " + name + " is not what was expected: " + err.Error())
	}
	return nil
}

// InvokeAsync has another function of the namespace run soon, and does not wait. When it returns without an error that is
// stored: the function runs at least once, is tried again as its function.yaml says, and its input is kept as a dead letter after
// the last attempt.
func InvokeAsync(name string, input any) error {
	payload, err := encodeInput(input)
	if err != nil {
		return err
	}
	accepted := hostFunctionInvokeAsync(ptr(name), size(name), ptr(payload), size(payload))
	keep(name)
	keep(payload)
	if accepted != 1 {
		return failure("invoke: the run of " + name + " was not accepted; the log says why")
	}
	return nil
}

// InvokeError says why Invoke gave no output.
type InvokeError struct {
	// Function is what was invoked.
	Function string
	// Status is "error" or "timeout".
	Status string
	// Code is for programs, as an invocation over HTTP has it: FUNCTION_EXIT, FUNCTION_NOT_FOUND, OVERLOADED and others.
	Code string
	// Message is for people.
	Message string
	// RequestID is the id of the run in the log; empty when none began.
	RequestID string
}

func (e *InvokeError) Error() string { return "invoke " + e.Function + ": " + e.Message }

func decodeInvoked(name string, data []byte) ([]byte, error) {
	var answer struct {
		Status       string  `json:"status"`
		Output       string  `json:"output"`
		OutputBase64 *string `json:"output_base64"`
		Error        string  `json:"error"`
		Code         string  `json:"code"`
		RequestID    string  `json:"request_id"`
	}
	if err := decode(data, &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, &InvokeError{name, answer.Status, answer.Code, answer.Error, answer.RequestID}
	}
	if answer.OutputBase64 == nil {
		return []byte(answer.Output), nil
	}
	output, err := base64.StdEncoding.DecodeString(*answer.OutputBase64)
	if err != nil {
		return nil, failure("invoke: the output was not understood: " + err.Error())
	}
	return output, nil
}

func encodeInput(input any) (string, error) {
	switch input := input.(type) {
	case []byte:
		return string(input), nil
	case json.RawMessage:
		return string(input), nil
	}
	data, err := json.Marshal(input)
	if err != nil {
		return "", failure("invoke: the input cannot be sent: " + err.Error())
	}
	return string(data), nil
}

// Scheduled is the input of a function that a schedule runs.
type Scheduled struct {
	// Schedule is the cron expression.
	Schedule string `json:"schedule"`
	// ScheduledAt is the slot: when the run was due. It tells two runs of the same slot from runs of two.
	ScheduledAt time.Time `json:"scheduled_at"`
	// TriggerID is the schedule's id, as `orama function triggers list` shows it.
	TriggerID string `json:"trigger_id"`
}

// Message is one message of PublishBatch.
type Message struct {
	// Topic is what it is published to.
	Topic string `json:"topic"`
	// Data is sent as JSON.
	Data any `json:"data"`
}

// PublishBatch sends at most 100 messages: all of them or none. When it returns without an error they are stored.
func PublishBatch(messages ...Message) error {
	// None are [] and not null.
	data, err := json.Marshal(append([]Message{}, messages...))
	if err != nil {
		return failure("pubsub: the messages cannot be sent: " + err.Error())
	}
	batch := string(data)
	accepted := hostPubsubPublishBatch(ptr(batch), size(batch))
	keep(batch)
	if accepted != 1 {
		return failure("pubsub: the messages were not accepted; the log says why")
	}
	return nil
}

// PublishLater is Publish after a time, at most 30 days. When it returns without an error the message is stored, and is
// published at its time whatever happens to the node meanwhile. The triggers that the topic has then run.
func PublishLater(topic string, v any, delay time.Duration) error {
	data, err := json.Marshal(v)
	if err != nil {
		return failure("pubsub: the message cannot be sent: " + err.Error())
	}
	message := string(data)
	accepted := hostPubsubPublishLater(ptr(topic), size(topic), ptr(message), size(message), delay.Milliseconds())
	keep(topic)
	keep(message)
	if accepted != 1 {
		return failure("pubsub: the message to " + topic + " was not accepted; the log says why")
	}
	return nil
}

// ExecuteAndPublish runs at most 98 statements as Transaction does, and publishes a message with them: both happen or neither.
// The text {{seq}} in the message becomes a number that grows by one with each such message of the namespace, and is returned.
//
// An error with committed true is one of a Select: the changes and the message stand.
func ExecuteAndPublish(topic string, v any, statements ...Statement) (results []StatementResult, seq int64, committed bool, err error) {
	request, err := encodeStatements(statements, "", 0)
	if err != nil {
		return nil, 0, false, err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, 0, false, failure("pubsub: the message cannot be sent: " + err.Error())
	}
	message := string(data)
	result := take(hostExecAndPublish(ptr(request), size(request), ptr(topic), size(topic), ptr(message), size(message)))
	keep(request)
	keep(topic)
	keep(message)
	var answer struct {
		Seq int64 `json:"seq"`
	}
	if err := decode(result, &answer); err != nil {
		return nil, 0, false, err
	}
	results, committed, err = decodeBatch(result)
	return results, answer.Seq, committed, err
}
