package orama

import (
	"encoding/json"
	"io"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// HTTPRequest is the request that caused this run. Its body is the invocation's input: os.Stdin, or ReadInput.
type HTTPRequest struct {
	// Method is GET, POST and so on.
	Method string `json:"method"`
	// Path begins behind the function's name, as it was sent; it is / at least.
	Path string `json:"path"`
	// Query is what stands behind the question mark, as it was sent.
	Query string `json:"query"`
	// Host is what the client asked for.
	Host string `json:"host"`
	// Scheme is http or https.
	Scheme string `json:"scheme"`
	// ClientIP is the client's address.
	ClientIP string `json:"client_ip"`
	// Headers by name, in lower case.
	Headers map[string][]string `json:"headers"`
}

// Header returns the first value of a header, whose name may be written in any case; empty when it is not there.
func (r *HTTPRequest) Header(name string) string {
	for _, value := range r.Headers[strings.ToLower(name)] {
		return value
	}
	return ""
}

// Cookie returns the value of a cookie; false when the client sent none of that name.
func (r *HTTPRequest) Cookie(name string) (string, bool) {
	for _, line := range r.Headers["cookie"] {
		for _, pair := range strings.Split(line, ";") {
			if key, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && key == name {
				return value, true
			}
		}
	}
	return "", false
}

// Values returns the query's values by name.
func (r *HTTPRequest) Values() url.Values {
	values, _ := url.ParseQuery(r.Query)
	return values
}

// CurrentRequest returns the HTTP request that caused this run; false when a trigger or a WebSocket did.
func CurrentRequest() (*HTTPRequest, bool) {
	data := take(hostHTTPRequest())
	if len(data) == 0 {
		return nil, false
	}
	var request HTTPRequest
	if err := json.Unmarshal(data, &request); err != nil {
		LogError("http: the request was not understood: " + err.Error())
		return nil, false
	}
	return &request, true
}

// Respond gives the whole answer: status, headers, and a body of at most 8 MiB. The last call before the program ends counts,
// and standard output is then no part of the answer. A program that fails afterwards is answered with its failure.
func Respond(status int, headers map[string][]string, body []byte) error {
	encoded, err := encodeHeaders(headers)
	if err != nil {
		return err
	}
	text := string(body)
	taken := hostSetHTTPResponse(int32(status), ptr(encoded), size(encoded), ptr(text), size(text))
	keep(encoded)
	keep(text)
	if taken != 1 {
		return failure("http: the answer was not taken; the log says why")
	}
	return nil
}

// RespondJSON gives the whole answer: v as JSON.
func RespondJSON(status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return failure("http: the answer cannot be sent: " + err.Error())
	}
	return Respond(status, map[string][]string{"Content-Type": {"application/json"}}, data)
}

// StartResponse begins an answer that is sent as it is written: server-sent events, large downloads. It can be called once.
func StartResponse(status int, headers map[string][]string) (*ResponseStream, error) {
	encoded, err := encodeHeaders(headers)
	if err != nil {
		return nil, err
	}
	started := hostHTTPResponseStart(int32(status), ptr(encoded), size(encoded))
	keep(encoded)
	if started != 1 {
		return nil, failure("http: the answer was not begun; the log says why")
	}
	return &ResponseStream{}, nil
}

// ResponseStream is the body of an answer that has begun. It ends with the program.
type ResponseStream struct{}

// Write sends bytes at once, and waits while the client reads slowly. Once the client has gone it returns an error.
func (*ResponseStream) Write(data []byte) (int, error) {
	const most = 1 << 20
	for at := 0; at < len(data); at += most {
		text := string(data[at:min(at+most, len(data))])
		written := hostHTTPResponseWrite(ptr(text), size(text))
		keep(text)
		if written != 1 {
			return at, failure("http: the client has gone")
		}
	}
	return len(data), nil
}

// SendEvent writes a server-sent event; id and event may be empty. The answer's Content-Type should be text/event-stream.
func (s *ResponseStream) SendEvent(id, event, data string) error {
	var text strings.Builder
	field := func(name, value string) {
		for _, line := range strings.Split(value, "\n") {
			text.WriteString(name + ": " + strings.TrimSuffix(line, "\r") + "\n")
		}
	}
	if id != "" {
		field("id", id)
	}
	if event != "" {
		field("event", event)
	}
	field("data", data)
	text.WriteString("\n")
	_, err := s.Write([]byte(text.String()))
	return err
}

// ServeHTTP answers the request with a handler of net/http: a ServeMux, or a router such as chi or gorilla/mux.
//
//	func main() {
//		mux := http.NewServeMux()
//		mux.HandleFunc("GET /links/{name}", follow)
//		orama.ServeHTTP(mux)
//	}
//
// The answer is sent when the handler returns, or as it is written once the handler flushes (http.Flusher,
// http.ResponseController) or has written 1 MiB. A panic of the handler ends the program: the node answers 500, or breaks the
// answer off. For a run that no HTTP request caused, the handler gets a POST of the input to /.
//
// The types are inferred: they are those of net/http, which this package does not import, because programs that do not need it
// would be larger by two thirds.
func ServeHTTP[Handler interface{ ServeHTTP(Writer, *Request) }, Writer interface {
	Header() Header
	Write([]byte) (int, error)
	WriteHeader(int)
}, Header ~map[string][]string, Request any](handler Handler) {
	var answer any = &responseWriter[Header]{header: Header{}}
	writer, ok := answer.(Writer)
	if !ok {
		panic("orama.ServeHTTP takes a handler of net/http")
	}
	incoming, ok := CurrentRequest()
	if !ok {
		incoming = &HTTPRequest{Method: "POST", Path: "/", Scheme: "http", Headers: map[string][]string{}}
	}
	request := new(Request)
	if err := fill(reflect.ValueOf(request).Elem(), incoming); err != nil {
		Respond(400, map[string][]string{"Content-Type": {"text/plain; charset=utf-8"}}, []byte(err.Error()+"\n"))
		return
	}
	handler.ServeHTTP(writer, request)
	if err := answer.(*responseWriter[Header]).finish(); err != nil {
		LogError(err.Error())
		exit(1)
	}
}

// fill sets the fields of an http.Request.
func fill(request reflect.Value, incoming *HTTPRequest) error {
	target := incoming.Path
	if incoming.Query != "" {
		target += "?" + incoming.Query
	}
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return failure("the request's path is not valid: " + err.Error())
	}
	header := reflect.MakeMapWithSize(request.FieldByName("Header").Type(), len(incoming.Headers))
	for name, values := range incoming.Headers {
		// As with net/http, the host is no header.
		if name != "host" {
			header.SetMapIndex(reflect.ValueOf(canonical(name)), reflect.ValueOf(values))
		}
	}
	length := int64(-1)
	if text := incoming.Header("content-length"); text != "" {
		if parsed, err := strconv.ParseInt(text, 10, 64); err == nil {
			length = parsed
		}
	} else if incoming.Header("transfer-encoding") == "" {
		length = 0
	}
	for name, value := range map[string]any{
		"Method": incoming.Method, "URL": parsed, "Proto": "HTTP/1.1", "ProtoMajor": 1, "ProtoMinor": 1,
		"Body": io.NopCloser(os.Stdin), "ContentLength": length, "Host": incoming.Host,
		"RemoteAddr": remoteAddress(incoming.ClientIP), "RequestURI": target,
	} {
		request.FieldByName(name).Set(reflect.ValueOf(value))
	}
	request.FieldByName("Header").Set(header)
	return nil
}

// remoteAddress is an address as net/http writes it; the node does not tell the port.
func remoteAddress(ip string) string {
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	return ip + ":0"
}

// canonical writes a header's name as net/http does: content-type becomes Content-Type.
func canonical(name string) string {
	text := []byte(name)
	upper := true
	for at, c := range text {
		if upper && 'a' <= c && c <= 'z' {
			text[at] = c - 'a' + 'A'
		}
		upper = c == '-'
	}
	return string(text)
}

// streamFrom is how much of an answer is kept before it is sent as it is written.
const streamFrom = 1 << 20

// responseWriter is an http.ResponseWriter and an http.Flusher.
type responseWriter[Header ~map[string][]string] struct {
	header Header
	status int
	body   []byte
	stream *ResponseStream
	err    error
}

func (w *responseWriter[Header]) Header() Header { return w.header }

func (w *responseWriter[Header]) WriteHeader(status int) {
	// As with net/http, interim statuses are none, and the first one counts.
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *responseWriter[Header]) Write(data []byte) (int, error) {
	w.WriteHeader(200)
	if w.stream == nil {
		w.body = append(w.body, data...)
		if len(w.body) >= streamFrom {
			w.Flush()
		}
		return len(data), w.err
	}
	if w.err != nil {
		return 0, w.err
	}
	written, err := w.stream.Write(data)
	w.err = err
	return written, err
}

// Flush sends what was written, and from then on each write at once.
func (w *responseWriter[Header]) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *responseWriter[Header]) FlushError() error {
	w.WriteHeader(200)
	if w.stream != nil || w.err != nil {
		return w.err
	}
	w.describe()
	w.stream, w.err = StartResponse(w.status, w.header)
	if w.err == nil && len(w.body) > 0 {
		_, w.err = w.stream.Write(w.body)
	}
	w.body = nil
	return w.err
}

func (w *responseWriter[Header]) finish() error {
	if w.stream != nil || w.err != nil {
		// What a client that has gone did not get is no failure.
		return nil
	}
	w.WriteHeader(200)
	w.describe()
	return Respond(w.status, w.header, w.body)
}

// describe adds the type of a body whose handler did not tell it.
func (w *responseWriter[Header]) describe() {
	if _, ok := w.header["Content-Type"]; !ok && len(w.body) > 0 {
		w.header["Content-Type"] = []string{contentType(w.body)}
	}
}

// contentType tells HTML, other text, and bytes apart.
func contentType(body []byte) string {
	begin := strings.ToLower(strings.TrimLeft(string(body[:min(len(body), 512)]), "\t\n\f\r "))
	for _, tag := range []string{"<!doctype html", "<html", "<head", "<body", "<h1", "<div", "<p", "<table", "<script", "<style", "<a", "<!--"} {
		if rest, ok := strings.CutPrefix(begin, tag); ok && (tag == "<!--" || rest == "" || strings.ContainsAny(rest[:1], " >\n\t\r")) {
			return "text/html; charset=utf-8"
		}
	}
	if utf8.Valid(body) {
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

func encodeHeaders(headers map[string][]string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	data, err := json.Marshal(headers)
	if err != nil {
		return "", failure("http: the headers cannot be sent: " + err.Error())
	}
	return string(data), nil
}
