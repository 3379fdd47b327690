package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

// parameters of the operations on services, each a call of one host function. A string that is raw is handed over as
// it is, instead of the JSON beside it.
type parameters struct {
	Name        string            `json:"name"`        // secret: its name
	SQL         string            `json:"sql"`         // query, execute, query_v2, execute_v2
	Args        json.RawMessage   `json:"args"`        // the same: a JSON array; without it an empty string is handed over
	Ops         json.RawMessage   `json:"ops"`         // transaction, query_batch
	Consistency string            `json:"consistency"` // query_batch
	Value       string            `json:"value"`       // cache_set
	TTL         int64             `json:"ttl"`         // cache_set: seconds
	Delta       int64             `json:"delta"`       // cache_incr_by
	Method      string            `json:"method"`      // fetch
	URL         string            `json:"url"`         // fetch
	Headers     json.RawMessage   `json:"headers"`     // fetch: a JSON object; without it an empty string is handed over
	Body        string            `json:"body"`        // fetch; storage_put unless n says how many bytes
	CID         string            `json:"cid"`         // storage_get
	Topic       string            `json:"topic"`       // publish, republish
	Data        json.RawMessage   `json:"data"`        // publish: any JSON
	Raw         *string           `json:"raw"`         // instead of args, ops and their frame, headers or data
	Steps       []json.RawMessage `json:"steps"`       // steps: requests whose answers make an array
}

// event is what a trigger's invocation gets. When its data is a request, that is what is done.
type event struct {
	Topic        string          `json:"topic"`
	Data         json.RawMessage `json:"data"`
	TriggerDepth int             `json:"trigger_depth"`
}

// triggered returns the event if the input is one, and the request in its data.
func triggered(input []byte) (*event, request) {
	var e event
	var r request
	if json.Unmarshal(input, &e) != nil || e.TriggerDepth == 0 {
		return nil, r
	}
	json.Unmarshal(e.Data, &r) // data may be anything
	return &e, r
}

// service does one operation that can be a step and returns the JSON that answers it; ok is false when there is no such one.
func service(r *request, input []byte, e *event) (answer any, ok bool) {
	switch r.Do {
	case "sleep":
		time.Sleep(time.Duration(r.Ms) * time.Millisecond)
		return map[string]any{"slept_ms": r.Ms}, true
	case "context":
		return callerContext(r.Key, r.Text), true
	case "secret":
		return shown("value", out1(getSecret, r.Name)), true
	case "query":
		rows := out2(dbQuery, r.SQL, r.json(r.Args))
		if rows == "" {
			rows = "null" // failed
		}
		return map[string]any{"rows": json.RawMessage(rows)}, true
	case "execute":
		args := r.json(r.Args)
		affected := hostDBExecute(ptr(r.SQL), size(r.SQL), ptr(args), size(args))
		runtime.KeepAlive(r)
		runtime.KeepAlive(args)
		return map[string]any{"rows_affected": affected}, true
	case "query_v2":
		return verbatim(out2(dbQueryV2, r.SQL, r.json(r.Args))), true
	case "execute_v2":
		return verbatim(out2(dbExecuteV2, r.SQL, r.json(r.Args))), true
	case "transaction":
		return verbatim(out1(dbTransaction, r.ops())), true
	case "query_batch":
		return verbatim(out1(dbQueryBatch, r.ops())), true
	case "cache_get":
		return shown("value", out1(cacheGet, r.Key)), true
	case "cache_set":
		hostCacheSet(ptr(r.Key), size(r.Key), ptr(r.Value), size(r.Value), r.TTL)
		runtime.KeepAlive(r)
		return map[string]any{}, true
	case "cache_delete":
		deleted := hostCacheDelete(ptr(r.Key), size(r.Key))
		runtime.KeepAlive(r)
		return map[string]any{"deleted": deleted}, true
	case "cache_incr":
		value := hostCacheIncr(ptr(r.Key), size(r.Key))
		runtime.KeepAlive(r)
		return map[string]any{"value": value}, true
	case "cache_incr_by":
		value := hostCacheIncrBy(ptr(r.Key), size(r.Key), r.Delta)
		runtime.KeepAlive(r)
		return map[string]any{"value": value}, true
	case "fetch":
		return verbatim(httpFetch(r.Method, r.URL, r.json(r.Headers), r.Body)), true
	case "storage_put":
		if r.N > 0 {
			r.Body = strings.Repeat("x", r.N)
		}
		return map[string]any{"cid": out1(storagePut, r.Body)}, true
	case "storage_get":
		value := out1(storageGet, r.CID)
		if r.N > 0 { // so many bytes of it are shown
			return map[string]any{"size": len(value), "value": value[:min(r.N, len(value))]}, true
		}
		return shown("value", value), true
	case "publish":
		return map[string]any{"published": publish(r.Topic, r.json(r.Data))}, true
	case "republish": // what caused this invocation, to the topic it came from or to another one
		if e == nil {
			fail("republish: not triggered by an event")
		}
		logInfo(string(input))
		if r.Topic == "" {
			r.Topic = e.Topic
		}
		return map[string]any{"published": publish(r.Topic, string(e.Data))}, true
	case "log_input": // how a test learns what a triggered function was given
		logInfo(string(input))
		return map[string]any{"trigger_depth": depth(e)}, true
	case "fail_times": // fails the first n times for the key, as the cache counts them
		value := hostCacheIncr(ptr(r.Key), size(r.Key))
		runtime.KeepAlive(r)
		if value <= int64(r.N) {
			fail("failed on purpose")
		}
		return map[string]any{"attempts": value}, true
	case "steps":
		answers := make([]any, 0, len(r.Steps))
		for _, step := range r.Steps {
			var s request
			if err := json.Unmarshal(step, &s); err != nil {
				fail("a step is not JSON: " + err.Error())
			}
			answer, ok := service(&s, input, e)
			if !ok {
				fail("unknown \"do\" of a step: " + s.Do)
			}
			answers = append(answers, answer)
		}
		return answers, true
	}
	return nil, false
}

func depth(e *event) int {
	if e == nil {
		return 0
	}
	return e.TriggerDepth
}

func publish(topic, data string) bool {
	published := hostPubsubPublish(ptr(topic), size(topic), ptr(data), size(data))
	runtime.KeepAlive(topic)
	runtime.KeepAlive(data)
	return published == 1
}

// json is what is handed over for a JSON parameter.
func (r *request) json(value json.RawMessage) string {
	if r.Raw != nil {
		return *r.Raw
	}
	return string(value)
}

func (r *request) ops() string {
	if r.Raw != nil {
		return *r.Raw
	}
	ops := `{"ops":` + string(r.Ops)
	if r.Consistency != "" {
		ops += `,"consistency":"` + r.Consistency + `"`
	}
	return ops + "}"
}

// verbatim is a host function's JSON as it came; what is no JSON stops the program.
func verbatim(text string) json.RawMessage {
	if !json.Valid([]byte(text)) {
		os.Stdout.WriteString(text)
		fail("the host's answer is not JSON")
	}
	return json.RawMessage(text)
}

// shown is an object with the bytes as text, or as base64 when they are none.
func shown(name, value string) map[string]any {
	if utf8.ValidString(value) {
		return map[string]any{name: value}
	}
	return map[string]any{name + "_base64": base64.StdEncoding.EncodeToString([]byte(value))}
}
