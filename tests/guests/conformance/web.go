package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"orama"
	"os"
	"strings"
	"time"
)

func writeError(text string) { os.Stderr.WriteString(text) }

// webCases shape their answer.
var webCases = map[string]func(*orama.HTTPRequest){
	"web-request": func(request *orama.HTTPRequest) {
		body, err := orama.ReadInput()
		shown := map[string][]string{}
		for _, name := range []string{"host", "x-one", "content-type", "content-length", "cookie"} {
			shown[name] = request.Headers[name]
		}
		one, ok := request.Cookie("one")
		orama.RespondJSON(200, []any{
			request.Method, request.Path, request.Query, request.Host, request.Scheme, shown, one, ok, request.Values(), string(body), err == nil,
		})
	},
	"web-output": func(request *orama.HTTPRequest) {
		switch rest := strings.TrimPrefix(request.Path, "/web-output/"); rest {
		case "json":
			fmt.Print(" {\"a\": 1}\n")
		case "text":
			fmt.Print("{\"a\": 1} and more")
		case "bytes":
			os.Stdout.Write([]byte{'"', 0xff, '"'})
		case "none":
		}
	},
	"web-headers": func(*orama.HTTPRequest) {
		report(orama.Respond(299, map[string][]string{
			"X-Two": {"a", "b"}, "content-type": {"text/x"}, "Set-Cookie": {"a=1; Path=/", "b=2"}, "X-Request-Id": {"forged"},
			"X-Duration-Ms": {"1"}, "Content-Length": {"3"}, "Transfer-Encoding": {"chunked"}, "Connection": {"close"},
			"Keep-Alive": {"x"}, "Proxy-Authenticate": {"x"}, "TE": {"x"}, "Trailer": {"x"}, "Upgrade": {"x"}, "X-Orama-Node": {"x"},
			"Date": {"yesterday"}, "Cache-Control": {"no-store"}, "X-Empty": {""}, "X-Ümlaut": nil, "X-Value": {"tab\tand é"},
		}, []byte("body")))
	},
	"web-refused": func(*orama.HTTPRequest) {
		seen := saw{}
		for _, status := range []int{-1, 0, 100, 101, 199, 600, 70_000} {
			seen.add(orama.Respond(status, nil, nil))
		}
		many := map[string][]string{"X-Many": make([]string, 65)}
		seen.add(orama.Respond(200, many, nil))
		many["X-Many"] = many["X-Many"][:64]
		seen.add(orama.Respond(200, many, nil))
		for _, header := range [][2]string{{"a b", "x"}, {"", "x"}, {"x", "a\nb"}, {"x", "a\x00"}, {"x", strings.Repeat("y", 16<<10)}} {
			seen.add(orama.Respond(200, map[string][]string{header[0]: {header[1]}}, nil))
		}
		seen.add(orama.Respond(200, nil, make([]byte, 8<<20+1)))
		_, err := (&orama.ResponseStream{}).Write([]byte("x"))
		seen.add(err)
		orama.RespondJSON(200, seen)
	},
	"web-last": func(*orama.HTTPRequest) {
		report(orama.Respond(500, map[string][]string{"X-First": {"1"}}, []byte("first")))
		report(orama.Respond(600, nil, nil))
		report(orama.Respond(201, map[string][]string{"X-Second": {"2"}}, []byte("second")))
		fmt.Print("output that nobody sees")
	},
	"web-stream": func(*orama.HTTPRequest) {
		report(orama.Respond(500, nil, []byte("given up")))
		stream, err := orama.StartResponse(202, map[string][]string{"Content-Type": {"text/event-stream"}})
		report(err)
		report(stream.SendEvent("1", "word", "two\nlines"))
		_, err = stream.Write([]byte("bytes"))
		report(err)
		report(orama.Respond(200, nil, []byte("too late")))
		_, err = orama.StartResponse(200, nil)
		report(err)
		fmt.Print("output that nobody sees")
	},
	"web-broken": func(*orama.HTTPRequest) {
		stream, err := orama.StartResponse(200, nil)
		report(err)
		_, err = stream.Write([]byte("a part"))
		report(err)
		orama.Fail(errors.New("broke"))
	},
	"web-fails": func(request *orama.HTTPRequest) {
		defer orama.LogInfo("deferred")
		report(orama.Respond(200, nil, []byte("not sent")))
		switch strings.TrimPrefix(request.Path, "/web-fails/") {
		case "error":
			orama.Fail(errors.New("an error"))
		case "status":
			orama.Fail(fmt.Errorf("wrapped: %w", orama.Error(409, "told")))
		case "panic":
			var none map[string]int
			none["a"] = 1
		case "exit":
			orama.Handle(func(int) (int, error) { return 0, nil })
		}
	},
	"web-handler": func(*orama.HTTPRequest) { orama.ServeHTTP(handler()) },
	"web-sleep":   func(*orama.HTTPRequest) { time.Sleep(time.Millisecond) },
}

// report logs an error.
func report(err error) {
	if err != nil {
		orama.LogError("saw " + err.Error())
	}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /web-handler/hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "Hello, "+r.PathValue("name")+" "+r.URL.Query().Get("q"))
	})
	mux.HandleFunc("POST /web-handler/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		w.WriteHeader(201)
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /web-handler/flush", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "<p>one")
		w.(http.Flusher).Flush()
		io.WriteString(w, "<p>two")
	})
	mux.HandleFunc("GET /web-handler/none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	mux.HandleFunc("GET /web-handler/panic", func(http.ResponseWriter, *http.Request) { panic("of the handler") })
	return mux
}
