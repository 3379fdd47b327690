package oramatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"orama"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// stubTest is a test that notes its failures instead of failing.
type stubTest struct {
	testing.TB
	name  string
	mu    sync.Mutex
	fatal string
	after []func()
}

func (s *stubTest) Name() string     { return s.name }
func (s *stubTest) Helper()          {}
func (s *stubTest) Cleanup(f func()) { s.after = append(s.after, f) }

func (s *stubTest) Fatalf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fatal = fmt.Sprintf(format, args...)
}

func (s *stubTest) end() {
	for at := len(s.after) - 1; at >= 0; at-- {
		s.after[at]()
	}
}

func texts(logs []Log) (all []string) {
	for _, each := range logs {
		all = append(all, each.Level+": "+each.Message)
	}
	return all
}

// list has values with a blank between them.
func list(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

func is(t *testing.T, what string, got, want any) {
	t.Helper()
	gotText, wantText := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want)
	if gotText != wantText {
		t.Errorf("%s: got %s, want %s", what, gotText, wantText)
	}
}

func TestContentIDsAreThoseOfIPFS(t *testing.T) {
	text, err := os.ReadFile("../../../tests/vectors/cids.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Size int
		CID  string
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, vector := range vectors {
		file := make([]byte, vector.Size)
		for at := range file {
			file[at] = byte(at % 251)
		}
		is(t, fmt.Sprint(vector.Size, " bytes"), contentID(file), vector.CID)
	}
}

func TestOneTestAtATimeHasAHost(t *testing.T) {
	outer := New(t)
	orama.Cache.Set("of", []byte("the outer test"), 0)
	t.Run("a subtest has its own", func(t *testing.T) {
		New(t)
		if _, ok := orama.Cache.Get("of"); ok {
			t.Error("it found what the outer test had set")
		}
	})
	value, _ := orama.Cache.Get("of")
	is(t, "after the subtest", string(value), "the outer test")

	other := &stubTest{TB: t, name: "TestOther"}
	made := make(chan *Host)
	go func() { made <- New(other) }()
	select {
	case <-made:
		t.Error("another test got a host while this one has one")
	case <-time.After(50 * time.Millisecond):
	}
	endTurn(outer)
	<-made
	if _, ok := orama.Cache.Get("of"); ok {
		t.Error("the other test found what this one had set")
	}
	other.end()
	if _, err := orama.StoragePut([]byte("x")); err == nil {
		t.Error("a host outlived its test")
	}
}

func TestParallelTestsTakeTurns(t *testing.T) {
	for n := range 8 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			host := New(t)
			for range 50 {
				orama.Cache.Incr("n")
			}
			is(t, "counted", orama.Cache.Incr("n"), 51)
			is(t, "logged", len(host.Logs()), 0)
		})
	}
}

func TestTheClockAdvances(t *testing.T) {
	host := New(t)
	orama.Cache.Set("k", []byte("v"), time.Hour)
	if err := orama.PublishLater("late", 2, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := orama.PublishLater("early", 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := orama.Publish("now", 0); err != nil {
		t.Fatal(err)
	}
	topics := func(messages []Message) (all []string) {
		for _, message := range messages {
			all = append(all, message.Topic+"="+string(message.Data))
		}
		return all
	}
	is(t, "published", topics(host.Published()), "[now=0]")
	is(t, "later", topics(host.Later()), "[early=1 late=2]")
	before := host.Now()
	host.Advance(time.Hour)
	if passed := host.Now().Sub(before); passed < time.Hour {
		t.Errorf("%v passed", passed)
	}
	if _, ok := orama.Cache.Get("k"); ok {
		t.Error("the value outlived its time")
	}
	is(t, "published", topics(host.Published()), "[now=0 early=1]")
	host.Advance(time.Hour)
	is(t, "later", topics(host.Later()), "[]")
}

func withoutTime(groups []string, attribute slog.Attr) slog.Attr {
	if attribute.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return attribute
}

func TestALineOfSlogHasTheLevelThatItNames(t *testing.T) {
	host := New(t)
	lines := map[string]string{
		"2026/11/29 20:00:00 INFO paid id=7":                          "info",
		"2026/11/29 20:00:00.123456 WARN+2 slow":                      "info",
		"2026/11/29 20:00:00 ERROR lost":                              "error",
		"time=2026-11-29T20:00:00.123Z level=DEBUG msg=paid":          "info",
		"time=2026-11-29T20:00:00.123+01:00 level=ERROR-1 msg=lost":   "error",
		`{"time":"2026-11-29T20:00:00Z","level":"WARN","msg":"slow"}`: "info",
		`{"level":"DEBUG","msg":"x"}`:                                 "info",
		"INFO":                                                        "info",
		"INFORMATION lost":                                            "error",
		"INFO: paid":                                                  "error",
		"2026/11/29 20:00:00 paid":                                    "error",
		`{"msg":"x","level":"INFO"}`:                                  "error",
	}
	for line, level := range lines {
		result := host.Run(func() { fmt.Fprintln(os.Stderr, line) }, nil)
		is(t, line, texts(result.Logs), []string{level + ": " + line})
	}
}

func TestARunHasStreamsOfItsOwnAndALog(t *testing.T) {
	host := New(t)
	host.SetEnv("GREETING", "Hello")
	result := host.Run(func() {
		input, _ := io.ReadAll(os.Stdin)
		fmt.Fprint(os.Stderr, "half ")
		orama.LogInfo("between")
		fmt.Fprintln(os.Stderr, "a line")
		log.SetFlags(0)
		log.Print("by package log")
		slog.Error("by log/slog")
		slog.Info("told")
		slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})).Warn("text", "n", 1)
		slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})).Info("json")
		fmt.Print(os.Getenv("GREETING"), ", ", string(input), " ", orama.Env("GREETING"))
	}, []byte("Ann"))
	is(t, "output", string(result.Output), "Hello, Ann Hello")
	is(t, "error", result.Err, nil)
	is(t, "log", strings.Join(texts(result.Logs), "|"),
		"info: between|error: half a line|error: by package log|error: ERROR by log/slog|info: INFO told|"+
			`info: level=WARN msg=text n=1|info: {"level":"INFO","msg":"json"}`)
	if orama.RequestID() == result.RequestID {
		t.Error("the test has the run's id")
	}
}

func TestAProgramEndsAsOnANode(t *testing.T) {
	host := New(t)
	failed := host.Run(func() {
		defer orama.LogInfo("a deferred call ran")
		fmt.Print("half")
		orama.Fail(errors.New("no such order"))
	}, nil)
	is(t, "failed", list(failed.Err, failed.ExitCode, string(failed.Output), texts(failed.Logs)),
		"the function exited with code 1 1 half [error: no such order]")
	if err := failed.Decode(new(int)); !errors.Is(err, failed.Err) {
		t.Errorf("%v", err)
	}
	panicked := host.Run(func() { panic(errors.New("lost")) }, nil)
	is(t, "panicked", panicked.Err, "the function exited with code 2; panic: lost")
	told := host.Do(func() { orama.Fail(orama.Error(404, "no such order")) }, httptest.NewRequest("GET", "/", nil))
	body, _ := io.ReadAll(told.Body)
	is(t, "told", list(told.StatusCode, string(body)), `404 {"error":"no such order"}`)

	stub := &stubTest{TB: t, name: t.Name()}
	other := New(stub)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		defer func() { _ = recover() }()
		other.run = nil
		node{other}.Exit(1)
	}()
	<-ended
	is(t, "outside of a run", stub.fatal, "the program ended with exit code 1; a program that may end is run by Host.Run or Host.Do")
	stub.end()
}

func TestAnEventSetsTheDepthOfWhatIsPublished(t *testing.T) {
	host := New(t)
	program := func() {
		orama.Handle(func(event orama.Event) (orama.Event, error) {
			return event, orama.Publish("next", event.TriggerDepth)
		})
	}
	var event orama.Event
	result := host.Run(program, orama.Event{Topic: "orders", Data: json.RawMessage(`{"id":7}`)})
	if err := result.Decode(&event); err != nil {
		t.Fatal(err)
	}
	is(t, "event", list(event.Topic, string(event.Data), event.Namespace, event.TriggerDepth), `orders {"id":7} default 1`)
	host.Run(program, orama.Event{TriggerDepth: 4, Data: json.RawMessage("null")})
	published := host.Published()
	is(t, "depths", []int{published[0].Depth, published[1].Depth}, "[2 5]")
}

func TestAScheduleHasTheInputOfANode(t *testing.T) {
	host := New(t)
	slot := time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
	result := host.Run(func() { io.Copy(os.Stdout, os.Stdin) }, orama.Scheduled{Schedule: "@daily", ScheduledAt: slot, TriggerID: "t"})
	is(t, "input", string(result.Output), `{"trigger":"cron","schedule":"@daily","scheduled_at":"2026-11-29T20:00:00Z","trigger_id":"t"}`)
}

func TestOtherFunctionsAreRunByTheTest(t *testing.T) {
	host := New(t)
	host.HandleFunction("greet", func(input []byte) ([]byte, error) {
		result := host.Run(func() {
			orama.Handle(func(name string) (string, error) {
				if name == "" {
					return "", errors.New("no name")
				}
				return "Hello, " + name, nil
			})
		}, input)
		return result.Output, result.Err
	})
	host.HandleFunction("busy", func([]byte) ([]byte, error) {
		return nil, &orama.InvokeError{Status: "timeout", Code: "TIMEOUT", Message: "too slow"}
	})
	result := host.Run(func() {
		var greeting string
		first := orama.InvokeInto(&greeting, "greet", "Ann")
		fmt.Printf("%v %s %v|", first, greeting, orama.InvokeInto(&greeting, "greet", ""))
		_, err := orama.Invoke("busy", nil)
		var failed *orama.InvokeError
		fmt.Printf("%v %s %s %v", errors.As(err, &failed), failed.Status, failed.Code, orama.InvokeAsync("greet", "Bob"))
	}, nil)
	is(t, "output", string(result.Output),
		"<nil> Hello, Ann invoke greet: the function exited with code 1|true timeout TIMEOUT <nil>")
	is(t, "logged by the caller itself", len(result.Logs), 0)
	started := host.InvokedAsync()
	var name string
	is(t, "started", list(len(started), started[0].Function, started[0].Decode(&name), name), "1 greet <nil> Bob")
}

func TestTheCallerIsWhoTheTestSays(t *testing.T) {
	host := New(t)
	host.SetCaller("0xabc", map[string]any{"role": "chef", "n": 5, "custom": map[string]any{"team": "blue", "role": "cook"}})
	is(t, "caller", []string{
		orama.CallerWallet(), orama.CallerSubject(), orama.CallerClaim("sub"), orama.CallerClaim("role"), orama.CallerClaim("n"),
		orama.CallerClaim("team"), orama.CallerClaim("none"),
	}, "[0xabc 0xabc 0xabc chef 5 blue ]")
}

func TestAFetchWithoutATransportSaysSo(t *testing.T) {
	host := New(t)
	_, err := orama.Fetch(orama.Request{URL: "http://example.org/"})
	is(t, "error", err, "http: this test has no web: set Host.Transport, or call Host.HandleHTTP")
	host.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	response, err := orama.Fetch(orama.Request{URL: "http://example.org/"})
	if err != nil {
		t.Fatal(err)
	}
	is(t, "body", string(response.Body), "example.org")
}

// silent is a test whose failure is expected.
type silent struct {
	testing.TB
	said string
}

func (s *silent) Error(args ...any) { s.said = fmt.Sprint(args...) }

func TestADatabaseWithoutADriverFailsTheTest(t *testing.T) {
	host := New(t)
	quiet := &silent{TB: t}
	host.t = quiet
	_, err := orama.Query("SELECT 1")
	host.t = t
	if err == nil || !strings.Contains(quiet.said, `import _ "orama/oramatest/sqlite"`) {
		t.Errorf("%v, %q", err, quiet.said)
	}
}
