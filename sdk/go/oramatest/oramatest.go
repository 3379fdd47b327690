// Package oramatest plays a node for the tests of a function: `go test` runs the function's own code against a database, a cache,
// topics, secrets, stored objects, other functions and the web, without a node and without WebAssembly.
//
//	func TestAGreetingIsCounted(t *testing.T) {
//		host := oramatest.New(t)
//		host.SetEnv("GREETING", "Hello")
//		result := host.Run(main, Input{Name: "Ann"})
//		var out Output
//		if err := result.Decode(&out); err != nil {
//			t.Fatal(err)
//		}
//		...
//	}
//
// From New to the end of the test, package orama talks to the host, also from the test itself: orama.Query reads what the
// function has written, and a function's parts can be called as they are. Run and Do run a whole program as the node does.
//
// What a host answers is what a node answers, down to the words of its errors: one suite of cases runs on both. It differs in
// what has to do with WebAssembly and with load: there is no timeout, no limit on memory or on the log's length, no rate and no
// quota; package variables keep their values from one run to the next; a triggered function is run by the test.
//
// A database needs a driver, which package orama/oramatest/sqlite brings along:
//
//	import _ "orama/oramatest/sqlite"
//
// # Parallel tests
//
// A program has one node, so one test at a time has a host. New waits until the tests that have one have ended; a subtest of such
// a test need not wait, and its own host takes the place of the other until it ends. A test that calls t.Parallel does so before
// New, since it would keep its host while it waits for its turn.
package oramatest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"orama/internal/host"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Host plays a node with one namespace, which is empty at first.
type Host struct {
	// Transport answers the function's requests to the outside (orama.Fetch). Without one they fail. HandleHTTP sets one that
	// asks a handler.
	Transport http.RoundTripper

	t testing.TB
	// changing guards what follows: a function may call from several goroutines.
	changing  sync.Mutex
	ahead     time.Duration
	env       map[string]string
	secrets   map[string]string
	caller    caller
	functions map[string]func(input []byte) ([]byte, error)
	started   []Invocation
	messages  []Message
	cached    map[string]entry
	objects   map[string][]byte
	database  host.Database
	logs      []Log
	runs      int
	run       *run
}

// node is a host as package orama sees it: the host functions.
type node struct{ *Host }

// caller is who a verified token names.
type caller struct {
	subject string
	claims  map[string]string
}

// New makes the host of a test. It ends with the test.
func New(t testing.TB) *Host {
	t.Helper()
	made := &Host{
		t:         t,
		env:       map[string]string{},
		secrets:   map[string]string{},
		functions: map[string]func([]byte) ([]byte, error){},
		cached:    map[string]entry{},
		objects:   map[string][]byte{},
	}
	takeTurn(made)
	t.Cleanup(func() {
		endTurn(made)
		if made.database != nil {
			if err := made.database.Close(); err != nil {
				t.Errorf("oramatest: closing the database: %v", err)
			}
		}
	})
	return made
}

// turns has the hosts of tests that run: a test's, then that of its subtest, and so on. The last one plays the node.
var turns = struct {
	sync.Mutex
	hosts   []*Host
	changed chan struct{}
}{changed: make(chan struct{})}

// patience is how long a test waits while one and the same other test has the host.
const patience = time.Minute

func takeTurn(made *Host) {
	made.t.Helper()
	for {
		turns.Lock()
		holder := ""
		if count := len(turns.hosts); count > 0 {
			holder = turns.hosts[count-1].t.Name()
		}
		name := made.t.Name()
		if holder == "" || holder == name || strings.HasPrefix(name, holder+"/") {
			turns.hosts = append(turns.hosts, made)
			host.Play(node{made})
			turns.Unlock()
			return
		}
		changed := turns.changed
		turns.Unlock()
		select {
		case <-changed:
		case <-time.After(patience):
			made.t.Fatalf("oramatest: %s has had its host for %v, and one test at a time can have one; "+
				"if it is parallel, it must call t.Parallel before oramatest.New", holder, patience)
		}
	}
}

func endTurn(ended *Host) {
	turns.Lock()
	defer turns.Unlock()
	for at, each := range turns.hosts {
		if each == ended {
			turns.hosts = append(turns.hosts[:at:at], turns.hosts[at+1:]...)
		}
	}
	if count := len(turns.hosts); count > 0 {
		host.Play(node{turns.hosts[count-1]})
	} else {
		host.Play(nil)
	}
	close(turns.changed)
	turns.changed = make(chan struct{})
}

// SetEnv sets a variable of function.yaml's env. The program finds it by orama.Env and, until the test ends, by os.Getenv.
func (h *Host) SetEnv(key, value string) {
	h.t.Helper()
	before, was := os.LookupEnv(key)
	if err := os.Setenv(key, value); err != nil {
		h.t.Fatalf("oramatest: %v", err)
	}
	h.t.Cleanup(func() {
		if was {
			os.Setenv(key, before)
		} else {
			os.Unsetenv(key)
		}
	})
	h.changing.Lock()
	defer h.changing.Unlock()
	h.env[key] = value
}

// SetSecret sets a secret of the namespace.
func (h *Host) SetSecret(name, value string) {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.secrets[name] = value
}

// SetCaller makes the caller one with a verified token: its "sub", which is the wallet too, and its other claims. As on a node, a
// claim may be one of the object "custom". Without it, callers have no token.
func (h *Host) SetCaller(subject string, claims map[string]any) {
	h.t.Helper()
	all := map[string]string{}
	add := func(claims map[string]any) {
		for name, value := range claims {
			if text, ok := value.(string); ok {
				all[name] = text
				continue
			}
			text, err := json.Marshal(value)
			if err != nil {
				h.t.Fatalf("oramatest: the claim %s: %v", name, err)
			}
			all[name] = string(text)
		}
	}
	custom, _ := claims["custom"].(map[string]any)
	add(custom)
	add(claims)
	all["sub"] = subject
	h.changing.Lock()
	defer h.changing.Unlock()
	h.caller = caller{subject, all}
}

// Now is the time of the host's clock: that of the machine, and what it was advanced.
func (h *Host) Now() time.Time {
	h.changing.Lock()
	defer h.changing.Unlock()
	return h.now()
}

// Advance puts the host's clock forward: what is in the cache comes to its end, and messages that wait come to be published. It
// does not change time.Now nor the database's clock.
func (h *Host) Advance(d time.Duration) {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.ahead += d
}

func (h *Host) now() time.Time { return time.Now().Add(h.ahead) }

// Log is one message of an invocation's log.
type Log struct {
	// Level is "info" or "error".
	Level string
	// Message is its text.
	Message string
	// RequestID is the run's that logged it.
	RequestID string
}

// Logs has every message that was logged, in order: those of the program, lines that it wrote to standard error, and what was
// wrong with calls that failed.
func (h *Host) Logs() []Log {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.run.readErrors(h)
	return append([]Log(nil), h.logs...)
}

// log adds a message, after the lines that the program has written to standard error before.
func (h *Host) log(level, message string) {
	h.run.readErrors(h)
	h.push(level, message)
}

// push adds a message.
func (h *Host) push(level, message string) {
	const most = 8 << 10
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) > most {
		end := most
		for end > 0 && message[end]&0xC0 == 0x80 {
			end--
		}
		message = fmt.Sprintf("%s [cut after %d bytes]", message[:end], end)
	}
	h.logs = append(h.logs, Log{level, message, h.requestID()})
}

// failed logs why a call failed.
func (h *Host) failed(call string, why *host.Failure) {
	h.log("error", call+": "+why.Message)
}

// LogInfo implements host.Host.
func (h node) LogInfo(message string) {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.log("info", message)
}

// LogError implements host.Host.
func (h node) LogError(message string) {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.log("error", message)
}

// GetCallerWallet implements host.Host.
func (h node) GetCallerWallet() []byte { return h.GetCallerJWTSubject() }

// GetCallerJWTSubject implements host.Host.
func (h node) GetCallerJWTSubject() []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	return []byte(h.caller.subject)
}

// GetCallerClaim implements host.Host.
func (h node) GetCallerClaim(name string) []byte {
	return h.named("get_caller_claim", name, nameMaxBytes, h.caller.claims)
}

// GetEnv implements host.Host.
func (h node) GetEnv(key string) []byte { return h.named("get_env", key, nameMaxBytes, h.env) }

// GetSecret implements host.Host.
func (h node) GetSecret(name string) []byte {
	return h.named("get_secret", name, secretNameMaxBytes, h.secrets)
}

func (h *Host) named(call, name string, most int, all map[string]string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	if why := checkText("the name", name, most); why != nil {
		h.failed(call, why)
		return nil
	}
	return []byte(all[name])
}

// GetRequestID implements host.Host.
func (h node) GetRequestID() []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	return []byte(h.requestID())
}

// requestID is that of the run, or of the test's own calls.
func (h *Host) requestID() string {
	if h.run != nil {
		return h.run.id
	}
	return "test"
}
