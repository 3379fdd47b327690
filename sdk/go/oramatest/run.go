package oramatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"orama"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
)

// Result is what a run gave.
type Result struct {
	// Output is the standard output, also that of a run that failed.
	Output []byte
	// Err is nil for a run that went well, else what the node tells the caller: the function exited with code 1.
	Err error
	// ExitCode is the program's.
	ExitCode int
	// RequestID is the run's id.
	RequestID string
	// Logs has the messages of the run.
	Logs []Log
}

// Decode reads the output, which is JSON, into v. For a run that failed it returns Err.
func (r Result) Decode(v any) error {
	if r.Err != nil {
		return r.Err
	}
	return json.Unmarshal(r.Output, v)
}

// Run runs a program, such as main, as an invocation that no HTTP request caused: by a trigger, a schedule, a WebSocket or
// another function. The input is sent as it is if it is a []byte or a json.RawMessage, and as JSON else; nil is an empty one. An
// orama.Event need not have more than its topic and its data, as a node fills in the rest.
//
//	result := host.Run(main, orama.Event{Topic: "orders", Data: json.RawMessage(`{"id":7}`)})
//
// The program has standard input, output and error of its own. It may end by orama.Fail; os.Exit would end the test.
func (h *Host) Run(program func(), input any) Result {
	h.t.Helper()
	depth := 0
	switch given := input.(type) {
	case nil:
		return h.execute(program, nil, nil, 0)
	case []byte:
		return h.execute(program, given, nil, 0)
	case json.RawMessage:
		return h.execute(program, given, nil, 0)
	case orama.Event:
		if given.Namespace == "" {
			given.Namespace = "default"
		}
		given.TriggerDepth = max(given.TriggerDepth, 1)
		if given.Timestamp == 0 {
			given.Timestamp = h.Now().Unix()
		}
		depth, input = given.TriggerDepth, given
	case orama.Scheduled:
		input = struct {
			Trigger string `json:"trigger"`
			orama.Scheduled
		}{"cron", given}
	}
	text, err := json.Marshal(input)
	if err != nil {
		h.t.Fatalf("oramatest: the input has no JSON: %v", err)
	}
	return h.execute(program, text, nil, depth)
}

// run is an invocation. It has standard streams of its own: files, since a program may use os.Stdin as it likes.
type run struct {
	id       string
	depth    int
	exchange *exchange
	// ended tells that the program has called Exit, and with which code.
	ended chan ending
	// errors is the standard error; read is how much of it is in the log, and line what of the last line was.
	errors *os.File
	read   int64
	line   []byte
}

// ending is how a program ended.
type ending struct {
	code     int
	panicked any
	stack    []byte
}

// execute runs a program, perhaps within the run of another one.
func (h *Host) execute(program func(), input []byte, exchange *exchange, depth int) Result {
	h.t.Helper()
	streams := h.openStreams(input)
	defer streams.close()
	h.changing.Lock()
	outer, from := h.run, len(h.logs)
	h.runs++
	made := &run{
		id: fmt.Sprintf("run-%d", h.runs), depth: depth, exchange: exchange, ended: make(chan ending, 2), errors: streams.errors,
	}
	h.run = made
	h.changing.Unlock()
	restore := streams.use()
	go func() {
		returned := false
		defer func() {
			if returned {
				return
			}
			made.ended <- ending{code: 2, panicked: recover(), stack: debug.Stack()}
		}()
		program()
		returned = true
		made.ended <- ending{}
	}()
	end := <-made.ended
	restore()
	output, err := os.ReadFile(streams.output.Name())
	if err != nil {
		h.t.Fatalf("oramatest: reading the output: %v", err)
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	result := Result{Output: output, ExitCode: end.code, RequestID: made.id}
	made.readErrors(h)
	made.endLine(h)
	if end.code != 0 {
		result.Err = fmt.Errorf("the function exited with code %d", end.code)
	}
	if end.panicked != nil {
		said := "panic: " + words(end.panicked)
		h.t.Logf("%s\n%s", said, end.stack)
		h.log("error", said)
		result.Err = fmt.Errorf("%w; %s", result.Err, said)
	}
	h.run = outer
	for _, each := range h.logs[from:] {
		if each.RequestID == made.id {
			result.Logs = append(result.Logs, each)
		}
	}
	return result
}

// words is a panic's value as the runtime writes it.
func words(value any) string {
	switch value := value.(type) {
	case error:
		return value.Error()
	case fmt.Stringer:
		return value.String()
	}
	return fmt.Sprint(value)
}

// Exit implements host.Host.
func (h node) Exit(code int) {
	h.changing.Lock()
	running := h.run
	h.changing.Unlock()
	if running == nil {
		h.t.Fatalf("the program ended with exit code %d; a program that may end is run by Host.Run or Host.Do", code)
	}
	running.ended <- ending{code: code}
	// As with os.Exit, nothing of the program runs any more, deferred calls neither.
	select {}
}

// streams are the standard streams of a run.
type streams struct{ input, output, errors *os.File }

func (h *Host) openStreams(input []byte) *streams {
	h.t.Helper()
	dir := h.t.TempDir()
	open := func(name string, content []byte) *os.File {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, content, 0o600)
		if err == nil {
			var file *os.File
			if file, err = os.OpenFile(path, os.O_RDWR, 0); err == nil {
				return file
			}
		}
		h.t.Fatalf("oramatest: making a standard stream: %v", err)
		return nil
	}
	return &streams{open("stdin", input), open("stdout", nil), open("stderr", nil)}
}

func (s *streams) close() {
	for _, file := range []*os.File{s.input, s.output, s.errors} {
		file.Close()
	}
}

// use makes them those of the process, and of package log where it writes to standard error. It returns what takes that back.
func (s *streams) use() (restore func()) {
	input, output, errors := os.Stdin, os.Stdout, os.Stderr
	isLogged := log.Writer() == errors
	os.Stdin, os.Stdout, os.Stderr = s.input, s.output, s.errors
	if isLogged {
		log.SetOutput(s.errors)
	}
	return func() {
		os.Stdin, os.Stdout, os.Stderr = input, output, errors
		if isLogged {
			log.SetOutput(errors)
		}
	}
}

// readErrors adds the lines to the log that the program has written to standard error since the last time.
func (r *run) readErrors(h *Host) {
	if r == nil {
		return
	}
	text, err := io.ReadAll(io.NewSectionReader(r.errors, r.read, 1<<40))
	if err != nil || len(text) == 0 {
		return
	}
	r.read += int64(len(text))
	for {
		line, rest, isWhole := bytes.Cut(text, []byte("\n"))
		r.line = append(r.line, line...)
		if !isWhole {
			return
		}
		text = rest
		r.pushLine(h)
	}
}

func (r *run) pushLine(h *Host) {
	line := string(bytes.TrimRight(r.line, "\r"))
	r.line = nil
	level := "error"
	if named := slogLevel.FindStringSubmatch(line); named != nil && named[1] != "ERROR" {
		level = "info"
	}
	h.push(level, line)
}

// slogLevel finds the level in a line of one of log/slog's handlers: the default one, TextHandler or JSONHandler.
var slogLevel = regexp.MustCompile(`^(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d{6})? |(?:time=[^ ]{0,63} )?level=|` +
	`\{(?:"time":"[^"]{0,62}",)?"level":")?(DEBUG|INFO|WARN|ERROR)(?:[+-]\d+)?(?:[ "]|$)`)

// endLine adds the last line, which may have no end.
func (r *run) endLine(h *Host) {
	if len(r.line) > 0 {
		r.pushLine(h)
	}
}
