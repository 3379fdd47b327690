// Package orama is what a function on Orama uses: its input and output, its context, and the services of its namespace.
//
//	package main
//
//	import "orama"
//
//	type Input struct {
//		User string `json:"user"`
//	}
//
//	func main() {
//		orama.Handle(func(in Input) (any, error) {
//			visits := orama.Cache.Incr("visits:" + in.User)
//			devices, err := orama.Query("SELECT push_token FROM devices WHERE user_id = ?", in.User)
//			if err != nil {
//				return nil, err
//			}
//			orama.LogInfo("asked for the devices of " + in.User)
//			return map[string]any{"visits": visits, "devices": devices}, nil
//		})
//	}
//
// It compiles with TinyGo (tinygo build -target wasi) and with standard Go 1.24 or newer (GOOS=wasip1 GOARCH=wasm), and has
// no dependencies. Everything is of the function's own namespace: rows, cache keys, topics, secrets, stored objects.
//
// Compiled for anything but WebAssembly, the package has no node to talk to, and every call fails as it would on a node without
// that service. In tests, package oramatest plays the node.
package orama

import (
	"encoding/json"
	"errors"
	"io"
	"os"
)

// ReadInput returns the invocation's whole input.
func ReadInput() ([]byte, error) {
	return io.ReadAll(os.Stdin)
}

// WriteOutput writes v as JSON: the invocation's output. A function does it once, as its last act.
func WriteOutput(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}

// SnapshotPending reports whether the node runs the start of the program for a snapshot: invocations then go on from here, and
// what is done before the input is read costs them nothing. It is the place to fill caches that are only worth it then, for
// example by serving a request to oneself. What the program cannot do without belongs in Init.
func SnapshotPending() bool {
	return hostSnapshotPending() != 0
}

// Init runs prepare before the input is read: it parses templates, compiles regular expressions, loads tables. With standard
// Go, all that is part of the snapshot from which invocations go on. With TinyGo, each invocation runs it.
func Init(prepare func()) {
	prepare()
}

// Handle is the body of a main function: it decodes the JSON input (an empty input leaves In as it is), calls handler,
// and writes what it returns as JSON. An error is logged and ends the invocation with exit code 1, upon which the node
// tries again if function.yaml says so. An error of Error is the answer instead, where an HTTP request caused the run.
func Handle[In, Out any](handler func(In) (Out, error)) {
	if err := handle(handler); err != nil {
		Fail(err)
	}
}

// Fail ends the program. An error of Error is the answer where an HTTP request caused the run; any other is logged, and fails
// the run.
func Fail(err error) {
	var told *StatusError
	if errors.As(err, &told) && RespondJSON(told.Status, map[string]string{"error": told.Message}) == nil {
		exit(0)
	}
	LogError(err.Error())
	exit(1)
}

// StatusError is an error that a client is told: its status and its message.
type StatusError struct {
	// Status is an HTTP status from 400 to 599.
	Status int
	// Message is for the client.
	Message string
}

func (e *StatusError) Error() string { return e.Message }

// Error returns an error with which Handle answers {"error": message} and the status, and no failure.
func Error(status int, message string) error {
	return &StatusError{status, message}
}

func handle[In, Out any](handler func(In) (Out, error)) error {
	if SnapshotPending() {
		warm[In]()
		warm[Out]()
	}
	data, err := ReadInput()
	if err != nil {
		return failure("reading the input: " + err.Error())
	}
	var input In
	if len(data) > 0 {
		if err := json.Unmarshal(data, &input); err != nil {
			return failure("the input is not what this function expects: " + err.Error())
		}
	}
	output, err := handler(input)
	if err != nil {
		return err
	}
	if err := WriteOutput(output); err != nil {
		return failure("writing the output: " + err.Error())
	}
	return nil
}

// warm makes the JSON package learn a type. That takes longer than most inputs and outputs do.
func warm[T any]() {
	// A type with methods of its own may not like its zero value.
	defer func() { _ = recover() }()
	var zero, read T
	_, _ = json.Marshal(zero)
	_ = json.Unmarshal([]byte("{}"), &read)
}

// Event is the input of a function that a trigger runs.
type Event struct {
	// Topic is what the message was published to.
	Topic string `json:"topic"`
	// Data is the message, the JSON that was published.
	Data json.RawMessage `json:"data"`
	// Namespace is the function's own.
	Namespace string `json:"namespace"`
	// TriggerDepth is 1 for a message that no triggered function published, and one more for each such function.
	TriggerDepth int `json:"trigger_depth"`
	// Timestamp is when the message was published, in Unix seconds.
	Timestamp int64 `json:"timestamp"`
}

// Decode reads the message into v.
func (e Event) Decode(v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return failure("the message on " + e.Topic + " is not what this function expects: " + err.Error())
	}
	return nil
}

// failure is an error of this package.
type failure string

func (f failure) Error() string { return string(f) }
