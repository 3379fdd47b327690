// Command misc behaves as the "do" field of its JSON input says, so that one module serves many tests.
// It builds with standard Go and with TinyGo. The host functions' import module is env, or with a build tag
// host (-tags host_host) or orama (-tags host_orama).
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

type request struct {
	Do      string `json:"do"`
	Code    int    `json:"code"`    // exit: exit code
	Ms      int    `json:"ms"`      // sleep, time: milliseconds
	N       int    `json:"n"`       // output: bytes; stderr, logs: lines; flood: bytes a write; oom: bytes a step
	Text    string `json:"text"`    // plain, panic, logs: what to say
	Key     string `json:"key"`     // context: environment key and name of the claim; cache_*: the key
	Partial bool   `json:"partial"` // exit, panic, spin: write to stdout first
	parameters
}

func main() {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail("reading stdin: " + err.Error())
	}
	e, r := triggered(input)
	if e == nil && len(bytes.TrimSpace(input)) > 0 {
		if err := json.Unmarshal(input, &r); err != nil {
			fail("input is not JSON: " + err.Error())
		}
	}
	if r.Partial {
		os.Stdout.WriteString("{\"partial\":")
	}
	switch r.Do {
	case "":
		reply(map[string]any{"compiler": runtime.Compiler, "input_bytes": len(input)})
	case "echo":
		os.Stdout.Write(input)
	case "plain":
		if r.Text == "" {
			r.Text = "plain text, not JSON"
		}
		os.Stdout.WriteString(r.Text)
	case "binary":
		os.Stdout.Write([]byte{0xff, 0xfe, 0x00, 0x80})
	case "nothing":
	case "output":
		output(r.N)
	case "exit":
		os.Exit(r.Code)
	case "panic":
		panic("panicked: " + r.Text)
	case "nil":
		var none *request
		os.Stdout.WriteString(none.Text)
	case "recurse":
		os.Stdout.WriteString(strconv.Itoa(recurseForever(1)))
	case "spin":
		spinForever()
	case "oom":
		allocateForever(r.N)
	case "flood":
		floodForever(r.N)
	case "stderr":
		for i := range max(r.N, 1) {
			os.Stderr.WriteString("stderr line " + strconv.Itoa(i) + "\n")
		}
		os.Stderr.WriteString("stderr without an end of line")
		reply(map[string]any{"lines": max(r.N, 1) + 1})
	case "logs":
		for i := range max(r.N, 1) {
			logInfo(r.Text + strconv.Itoa(i))
		}
		reply(map[string]any{"logged": max(r.N, 1)})
	case "env":
		reply(map[string]any{"args": os.Args, "environ": nonNil(os.Environ())})
	case "time":
		reply(clocks(r.Ms))
	case "random":
		reply(map[string]any{"random": random16()})
	case "files":
		reply(files())
	case "goroutines":
		reply(map[string]any{"sum": goroutines(max(r.N, 1))})
	case "unavailable":
		reply(unavailable())
	default:
		answer, ok := service(&r, input, e)
		if !ok {
			fail("unknown \"do\": " + r.Do)
		}
		reply(answer)
	}
}

func reply(value any) {
	out, err := json.Marshal(value)
	if err != nil {
		fail(err.Error())
	}
	os.Stdout.Write(out)
}

func fail(message string) {
	os.Stderr.WriteString(message + "\n")
	os.Exit(1)
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// output writes a JSON array of exactly n bytes (at least 2).
func output(n int) {
	line := []byte(strings.Repeat(" ", 64<<10))
	write([]byte("["))
	for left := n - 2; left > 0; left -= len(line) {
		write(line[:min(left, len(line))])
	}
	write([]byte("]"))
}

//go:noinline
func spinForever() {
	for i := uint64(1); i != 0; i += 2 {
		sink = i
	}
}

//go:noinline
func recurseForever(depth int) int {
	var frame [64]byte
	frame[depth%len(frame)] = byte(depth)
	return recurseForever(depth+1) + int(frame[(depth+1)%len(frame)])
}

var (
	sink uint64
	kept [][]byte
)

//go:noinline
func allocateForever(step int) {
	if step <= 0 {
		step = 1 << 20
	}
	for {
		block := make([]byte, step)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
}

//go:noinline
func floodForever(n int) {
	if n <= 0 {
		n = 64 << 10
	}
	block := []byte(strings.Repeat("x", n))
	for {
		write(block)
	}
}

// write ends the program when the host refuses the bytes, as a careful program would.
func write(b []byte) {
	if _, err := os.Stdout.Write(b); err != nil {
		fail("writing stdout: " + err.Error())
	}
}

func clocks(ms int) map[string]any {
	wall := time.Now()
	time.Sleep(time.Duration(ms) * time.Millisecond)
	return map[string]any{
		"unix_nanos":    strconv.FormatInt(wall.UnixNano(), 10), // a string: JSON numbers lose digits
		"elapsed_nanos": time.Since(wall).Nanoseconds(),
	}
}

func goroutines(n int) int {
	var (
		wg    sync.WaitGroup
		mutex sync.Mutex
		sum   int
	)
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(time.Millisecond)
			mutex.Lock()
			sum += i
			mutex.Unlock()
		}()
	}
	wg.Wait()
	return sum
}
