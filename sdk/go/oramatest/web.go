package oramatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"orama/internal/host"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Do runs a program for an HTTP request, and returns what the node would answer: what orama.ServeHTTP, orama.Respond or
// orama.StartResponse gave, else the standard output, else the node's own answer to a run that failed. The request's path is the
// part behind the function's name. What net/http/httptest makes will do:
//
//	response := host.Do(main, httptest.NewRequest("GET", "/hello/Ann", nil))
//
// A handler can be run without its main function:
//
//	host.Do(func() { orama.ServeHTTP(handler) }, request)
func (h *Host) Do(program func(), request *http.Request) *http.Response {
	h.t.Helper()
	var input []byte
	if request.Body != nil {
		var err error
		if input, err = io.ReadAll(request.Body); err != nil {
			h.t.Fatalf("oramatest: reading the request's body: %v", err)
		}
	}
	exchange := &exchange{request: describe(request, len(input)), isHead: request.Method == http.MethodHead}
	result := h.execute(program, input, exchange, 0)
	response := exchange.answer(result)
	response.Request = request
	return response
}

// exchange is the HTTP request of a run, and the answer that its function shapes.
type exchange struct {
	request  []byte
	isHead   bool
	isShaped bool
	hasBegun bool
	status   int
	header   http.Header
	body     []byte
}

// describe is a request as http_request gives it.
func describe(request *http.Request, size int) []byte {
	headers := map[string][]string{}
	for name, values := range request.Header {
		headers[strings.ToLower(name)] = values
	}
	if request.Host != "" {
		headers["host"] = []string{request.Host}
	}
	if size > 0 {
		headers["content-length"] = []string{strconv.Itoa(size)}
	}
	path := request.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	scheme := "http"
	if request.TLS != nil || request.URL.Scheme == "https" {
		scheme = "https"
	}
	client, _, err := net.SplitHostPort(request.RemoteAddr)
	if err != nil {
		client = "127.0.0.1"
	}
	return encoded(map[string]any{
		"method": request.Method, "path": path, "query": request.URL.RawQuery, "host": request.Host, "scheme": scheme,
		"client_ip": client, "headers": headers,
	})
}

// HTTPRequest implements host.Host.
func (h node) HTTPRequest() []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.run == nil || h.run.exchange == nil {
		return nil
	}
	return h.run.exchange.request
}

// SetHTTPResponse implements host.Host.
func (h node) SetHTTPResponse(status int32, headers, body string) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	why := checkSize("the body", body, outputMaxBytes)
	if why == nil {
		why = h.shape(status, headers, func(exchange *exchange) {
			exchange.isShaped, exchange.body = true, []byte(body)
		})
	}
	return h.shaped("set_http_response", why)
}

// HTTPResponseStart implements host.Host.
func (h node) HTTPResponseStart(status int32, headers string) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	return h.shaped("http_response_start", h.shape(status, headers, func(exchange *exchange) {
		exchange.isShaped, exchange.hasBegun, exchange.body = true, true, nil
	}))
}

// HTTPResponseWrite implements host.Host.
func (h node) HTTPResponseWrite(data string) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	why := checkSize("the bytes", data, outputMaxBytes)
	switch {
	case why != nil:
	case h.run == nil || h.run.exchange == nil:
		why = host.Invalid("no HTTP request caused this run")
	case !h.run.exchange.hasBegun:
		why = host.Invalid("no answer has begun; call http_response_start first")
	default:
		h.run.exchange.body = append(h.run.exchange.body, data...)
	}
	return h.shaped("http_response_write", why)
}

func (h *Host) shaped(call string, why *host.Failure) int32 {
	if why != nil {
		h.failed(call, why)
		return 0
	}
	return 1
}

// shape checks the beginning of an answer and takes it.
func (h *Host) shape(status int32, headers string, take func(*exchange)) *host.Failure {
	if status < 200 || status > 599 {
		return host.Invalid(fmt.Sprintf("the status must be from 200 to 599, got %d", status))
	}
	if why := checkText("the header object", headers, 4*answerHeadersMaxBytes); why != nil {
		return why
	}
	fields, why := headerFields(headers, answerHeadersMax, answerHeadersMaxBytes)
	if why != nil {
		return why
	}
	if h.run == nil || h.run.exchange == nil {
		return host.Invalid("no HTTP request caused this run")
	}
	header := http.Header{}
	for _, each := range fields {
		name := strings.ToLower(each.name)
		switch {
		case !isToken(each.name):
			return host.Invalid(shown(firstRunes(each.name, 80)) + " is not the name of a header")
		case !isFieldValue(each.value):
			return host.Invalid("the value of the header " + shown(firstRunes(each.name, 80)) +
				" has a line break or another control character")
		case !isOfTheNode(name):
			header.Add(each.name, each.value)
		}
	}
	if h.run.exchange.hasBegun {
		return host.Invalid("the answer has begun already")
	}
	h.run.exchange.status, h.run.exchange.header = int(status), header
	take(h.run.exchange)
	return nil
}

// ofTheNode has the headers of an answer that a function cannot set.
var ofTheNode = []string{
	"x-request-id", "x-duration-ms", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "date",
}

func isOfTheNode(name string) bool {
	return slices.Contains(ofTheNode, name) || strings.HasPrefix(name, "proxy-") || strings.HasPrefix(name, "x-orama-")
}

// answer is what the client gets when the run is over.
func (e *exchange) answer(result Result) *http.Response {
	response := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	body := e.body
	switch {
	case e.hasBegun && result.Err != nil:
		// The node ends the connection so that the client can tell.
		response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), brokenOff{}))
		fallthrough
	case e.isShaped && (result.Err == nil || e.hasBegun):
		response.StatusCode, response.Header = e.status, e.header
	case result.Err != nil:
		response.StatusCode, response.Header = http.StatusInternalServerError, http.Header{"Content-Type": {"application/json"}}
		body = encoded(map[string]any{
			"error": result.Err.Error(), "code": "FUNCTION_EXIT", "retryable": false, "request_id": result.RequestID,
		})
	default:
		body = result.Output
		response.StatusCode, response.Header = http.StatusOK, http.Header{"Content-Type": {typeOf(body)}}
	}
	response.Status = fmt.Sprintf("%d %s", response.StatusCode, http.StatusText(response.StatusCode))
	response.Header.Set("X-Request-Id", result.RequestID)
	if e.isHead || response.StatusCode == http.StatusNoContent || response.StatusCode == http.StatusNotModified {
		body = nil
	}
	response.ContentLength = -1
	if response.Body == nil {
		response.Body = io.NopCloser(bytes.NewReader(body))
		if !e.hasBegun {
			response.ContentLength = int64(len(body))
		}
	}
	return response
}

// brokenOff is the end of an answer that its run did not finish.
type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// typeOf is the type that the node gives to a standard output.
func typeOf(output []byte) string {
	switch {
	case json.Valid(output) && utf8.Valid(output):
		return "application/json"
	case utf8.Valid(output):
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}
