package main

import (
	"encoding/json"
	"math"
	"orama"
	"strings"
	"time"
)

var serviceCases = map[string]func(*saw){
	"context": func(s *saw) {
		s.add(orama.RequestID() != "", orama.CallerWallet(), orama.CallerSubject(), orama.CallerClaim("role"), orama.CallerClaim(""))
		s.add(orama.Env("MY_VAR"), orama.Env("MISSING"), orama.Env(""), orama.Env("bad\xff"), orama.Env(strings.Repeat("k", 4097)))
		s.add(orama.Secret("S"), orama.Secret("MISSING"), orama.Secret(""), orama.Secret(strings.Repeat("k", 64)))
		s.add(orama.SnapshotPending())
	},
	"logs": func(s *saw) {
		orama.LogInfo("info")
		orama.LogError("error")
		orama.LogInfo("")
		orama.LogInfo("two\nlines")
		orama.LogInfo("ä" + strings.Repeat("ä", 5000))
		writeError("on stderr\n")
		orama.LogInfo("between")
		writeError("half ")
		orama.LogInfo("within")
		writeError("a line\r\n")
		writeError("2026/11/29 20:00:00 INFO by log/slog\ntime=2026-11-29T20:00:00.123Z level=WARN msg=slow\n")
		writeError(`{"time":"2026-11-29T20:00:00Z","level":"ERROR","msg":"lost"}` + "\n" + `{"level":"DEBUG-4","msg":"x"}` + "\n")
		writeError("INFO: not by log/slog\nthe last")
	},
	"cache": func(s *saw) {
		get := func(key string) {
			value, ok := orama.Cache.Get(key)
			s.add(value, ok)
		}
		get("c")
		s.add(orama.Cache.Delete("c"))
		orama.Cache.Set("c", []byte("one"), 0)
		get("c")
		orama.Cache.Set("c", []byte{0, 255, '\r', '\n'}, time.Hour)
		get("c")
		get("C")
		orama.Cache.Set("c", nil, 0)
		get("c")
		s.add(orama.Cache.Delete("c"), orama.Cache.Delete("c"))
		get("c")
		for _, key := range []string{"with space", "a:b/c\r\n*$", "zero\x00byte", "ключ 🎈"} {
			orama.Cache.Set(key, []byte(key), 0)
			get(key)
		}
		orama.Cache.Set("", []byte("x"), 0)
		get("")
		s.add(orama.Cache.Delete(""), orama.Cache.Incr(""), orama.Cache.IncrBy("", 2))
		get("bad\xff")
		get(strings.Repeat("k", 257))
		longest := strings.Repeat("k", 256)
		orama.Cache.Set(longest, make([]byte, 1<<20), 0)
		value, ok := orama.Cache.Get(longest)
		s.add(len(value), ok)
		orama.Cache.Set(longest, make([]byte, 1<<20+1), 0)
		value, ok = orama.Cache.Get(longest)
		s.add(len(value), ok)
		orama.Cache.Set("negative", []byte("x"), -time.Second)
		get("negative")
		orama.Cache.Set("ages", []byte("x"), math.MaxInt64)
		get("ages")
	},
	"cache-numbers": func(s *saw) {
		s.add(orama.Cache.Incr("n"), orama.Cache.IncrBy("n", 41), orama.Cache.IncrBy("n", -50), orama.Cache.IncrBy("n", 0))
		for _, text := range []string{
			"9007199254740993", "9223372036854775807", "-9223372036854775808", "text", "", "1.5", "9223372036854775808", "007", "+5",
			"-0", " 5", "5",
		} {
			orama.Cache.Set("n", []byte(text), 0)
			for _, delta := range []int64{1, -1, math.MaxInt64, math.MinInt64} {
				s.add(orama.Cache.IncrBy("n", delta))
			}
			value, _ := orama.Cache.Get("n")
			s.add(value)
		}
		s.add(orama.Cache.Delete("n"), orama.Cache.IncrBy("n", math.MinInt64))
	},
	"cache-time": func(s *saw) {
		has := func(keys ...string) {
			for _, key := range keys {
				value, ok := orama.Cache.Get(key)
				s.add(value, ok)
			}
		}
		orama.Cache.Set("short", []byte("v"), time.Millisecond)
		orama.Cache.Set("long", []byte("v"), time.Hour)
		orama.Cache.Set("longer", []byte("v"), time.Second)
		orama.Cache.Set("longer", []byte("w"), 0)
		orama.Cache.Set("number", []byte("5"), time.Second)
		s.add(orama.Cache.Incr("number"))
		time.Sleep(1200 * time.Millisecond)
		has("short", "long", "longer", "number")
		s.add(orama.Cache.IncrBy("number", 2))
	},
	"storage": func(s *saw) {
		put := func(object []byte) string {
			cid, err := orama.StoragePut(object)
			found, ok := orama.StorageGet(cid)
			s.add(cid, err, len(found), ok)
			return cid
		}
		put([]byte("hello world\n"))
		put(nil)
		pattern := make([]byte, 600_000)
		for at := range pattern {
			pattern[at] = byte(at % 251)
		}
		put(pattern)
		put(pattern[:262_144])
		put(pattern[:262_145])
		for _, cid := range []string{"", "x", "..", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvykv", "bad\xff"} {
			found, ok := orama.StorageGet(cid)
			s.add(found, ok)
		}
		_, err := orama.StoragePut(make([]byte, 32<<20+1))
		s.add(err)
	},
	"topics": func(s *saw) {
		for _, topic := range []string{
			"topic", "calls:invite", "two words", "Öffnung", "*", "", " x", "x ", "a\nb", "a\x00b", "_orama/", "_orama/jobs", "_Orama/x",
			strings.Repeat("x", 256), strings.Repeat("x", 257), "bad\xff", "quote\"d\t",
		} {
			s.add(orama.Publish(topic, 1), orama.PublishLater(topic, 1, time.Hour))
		}
		for _, data := range []any{
			nil, "text", 1.5, json.RawMessage(`{"a": 1}`), json.RawMessage(`{`), strings.Repeat("x", 1020<<10-2), strings.Repeat("x", 1020<<10-1),
			make(chan int),
		} {
			s.add(orama.Publish("topic", data))
		}
		for _, delay := range []time.Duration{0, -1, -time.Millisecond, 30 * 24 * time.Hour, 30*24*time.Hour + time.Millisecond} {
			s.add(orama.PublishLater("topic", 1, delay))
		}
	},
	"topic-batches": func(s *saw) {
		message := orama.Message{Topic: "topic", Data: "x"}
		batch := func(count int) []orama.Message {
			messages := make([]orama.Message, count)
			for at := range messages {
				messages[at] = message
			}
			return messages
		}
		s.add(orama.PublishBatch(), orama.PublishBatch(batch(100)...), orama.PublishBatch(batch(101)...))
		s.add(orama.PublishBatch(message, orama.Message{Topic: "topic", Data: nil}))
		s.add(orama.PublishBatch(message, orama.Message{Data: 1}), orama.PublishBatch(message, orama.Message{Topic: "_orama/x"}))
		s.add(orama.PublishBatch(orama.Message{Topic: " x"}, orama.Message{Topic: "_orama/x"}))
		large := orama.Message{Topic: "topic", Data: strings.Repeat("x", 1020<<10-2)}
		s.add(orama.PublishBatch(large, large, large, large), orama.PublishBatch(large, large, large, large, large))
		s.add(orama.PublishBatch(orama.Message{Topic: "topic", Data: strings.Repeat("x", 1020<<10)}))
	},
	"fetch": func(s *saw) {
		request, _ := orama.CurrentRequest()
		base := request.Header("x-stand")
		fetch := func(request orama.Request) {
			response, err := orama.Fetch(request)
			s.add(err)
			if err == nil {
				s.add(response.Status, response.Body, response.Headers["X-Stand"], response.Header("content-type"))
			}
		}
		headers := map[string]string{"X-From": "a", "content-type": "text/x", "Authorization": "Bearer b"}
		fetch(orama.Request{URL: base + "/echo"})
		for _, method := range []string{"get", "POST", "put", "Delete", "PURGE"} {
			fetch(orama.Request{Method: method, URL: base + "/echo?q=1", Headers: headers, Body: []byte("body of " + method)})
		}
		for _, path := range []string{"/text", "/bytes", "/empty", "/500", "/204", "/redirect", "/loop", "/elsewhere"} {
			fetch(orama.Request{URL: base + path, Headers: headers})
		}
		for _, status := range []string{"301", "302", "303", "307", "308"} {
			fetch(orama.Request{Method: "POST", URL: base + "/to-echo/" + status, Headers: headers, Body: []byte("body")})
		}
	},
	"fetch-refused": func(s *saw) {
		fetch := func(request orama.Request) {
			_, err := orama.Fetch(request)
			s.add(err)
		}
		for _, url := range []string{"", "/path", "example.org", "ftp://example.org/", "file:///etc/passwd", "http://", strings.Repeat("x", 8193), "http://a\xff"} {
			fetch(orama.Request{URL: url})
		}
		const url = "http://192.0.2.1/"
		for _, method := range []string{"CONNECT", "a b", "bad\xff", "é"} {
			fetch(orama.Request{Method: method, URL: url})
		}
		for _, header := range [][2]string{
			{"Host", "a"}, {"content-length", "1"}, {"Transfer-Encoding", "chunked"}, {"Connection", "close"}, {"Te", "x"}, {"a b", "x"},
			{"", "x"}, {"x", "a\nb"}, {"x", "a\x00"}, {"X-Long", strings.Repeat("x", 64<<10)},
		} {
			fetch(orama.Request{URL: url, Headers: map[string]string{header[0]: header[1]}})
		}
		many := map[string]string{}
		for at := range 101 {
			many["x-"+strings.Repeat("y", at+1)] = ""
		}
		fetch(orama.Request{URL: url, Headers: many})
		fetch(orama.Request{Method: "POST", URL: url, Body: make([]byte, 8<<20+1)})
	},
	"calls": func(s *saw) {
		invoke := func(name string, input any) {
			output, err := orama.Invoke(name, input)
			s.add(output, err)
		}
		invoke("callee", []byte("echo what was sent"))
		invoke("callee", json.RawMessage(`{"a": 1}`))
		invoke("callee", "text")
		invoke("callee", []byte("bytes"))
		invoke("callee", []byte("fail"))
		invoke("callee", []byte("error"))
		invoke("callee", []byte("panic"))
		invoke("callee", []byte("caller"))
		invoke("callee@1", []byte("echo by version"))
		invoke("callee", make([]byte, 1<<20+1))
		invoke("nobody", nil)
		invoke("nobody@3", nil)
		invoke("bad\xff", nil)
		invoke("callee", make(chan int))
		var into struct{ A int }
		s.add(orama.InvokeInto(&into, "callee", []byte(`echo {"A":5}`)), into.A, orama.InvokeInto(&into, "callee", []byte("echo x")))
		for _, name := range []string{"callee", "callee@1", "nobody", "nobody@2", "callee@x", "callee@0", "", "bad name", "bad\xff"} {
			s.add(orama.InvokeAsync(name, []byte("echo")))
		}
		s.add(orama.InvokeAsync("callee", make([]byte, 1020<<10+1)))
	},
}
