package oramatest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"orama/internal/host"
	"slices"
	"strings"
	"unicode/utf8"
)

// HandleHTTP has a handler answer the function's requests to the outside, whatever their host.
func (h *Host) HandleHTTP(handler http.Handler) { h.Transport = handlerTransport{handler} }

// handlerTransport is an http.RoundTripper that asks a handler.
type handlerTransport struct{ handler http.Handler }

func (t handlerTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	incoming := request.Clone(request.Context())
	incoming.RequestURI = request.URL.RequestURI()
	incoming.RemoteAddr = "192.0.2.1:1234" // an address for documentation
	if incoming.Body == nil {
		incoming.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	t.handler.ServeHTTP(recorder, incoming)
	return recorder.Result(), nil
}

// HTTPFetch implements host.Host.
func (h node) HTTPFetch(method, address, headers, body string) []byte {
	answer, why := h.fetch(method, address, headers, body)
	if why == nil {
		return answer
	}
	return encoded(struct {
		Status int    `json:"status"`
		Error  string `json:"error"`
	}{0, why.Message})
}

func (h *Host) fetch(method, address, headers, body string) ([]byte, *host.Failure) {
	for _, why := range []*host.Failure{
		checkSize("the body", body, fetchBodyMaxBytes),
		checkText("the method", method, nameMaxBytes),
		checkText("the URL", address, urlMaxBytes),
	} {
		if why != nil {
			return nil, why
		}
	}
	fields, why := headerFields(headers, fetchHeadersMax, fetchHeadersMaxBytes)
	if why != nil {
		return nil, why
	}
	request, why := firstRequest(method, address, fields, body)
	if why != nil {
		return nil, why
	}
	for range redirectsMax + 1 {
		if h.Transport == nil {
			return nil, host.Invalid("this test has no web: set Host.Transport, or call Host.HandleHTTP")
		}
		response, err := h.Transport.RoundTrip(request)
		if err != nil {
			return nil, host.Invalid(err.Error())
		}
		next, why := redirected(request, response, body)
		if why != nil {
			return nil, why
		}
		if next == nil {
			return fetched(response)
		}
		response.Body.Close()
		if next.Body == nil {
			body = ""
		}
		request = next
	}
	return nil, host.Invalid(fmt.Sprintf("the server redirected more than %d times", redirectsMax))
}

// wellKnown has the methods that may be written in lower case.
var wellKnown = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}

// notForGuests has the headers that belong to the connection, or follow from the URL and the body.
var notForGuests = map[string]bool{
	"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "upgrade": true, "te": true,
	"trailer": true, "proxy-authorization": true, "proxy-connection": true, "keep-alive": true, "http2-settings": true,
}

func firstRequest(method, address string, fields []field, body string) (*http.Request, *host.Failure) {
	target, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, host.Invalid("the URL is not valid: " + err.Error())
	case target.Scheme == "":
		return nil, host.Invalid("the URL is not valid: relative URL without a base")
	case target.Scheme != "http" && target.Scheme != "https":
		return nil, host.Invalid("the URL must begin with http:// or https://")
	case target.Host == "":
		return nil, host.Invalid("the URL is not valid: empty host")
	}
	if method == "" {
		method = "GET"
	}
	if upper := strings.ToUpper(method); slices.Contains(wellKnown, upper) {
		method = upper
	}
	if !isToken(method) || method == "CONNECT" {
		return nil, host.Invalid(shown(firstRunes(method, 20)) + " is not a method that can be sent")
	}
	request, err := http.NewRequest(method, target.String(), strings.NewReader(body))
	if err != nil {
		return nil, host.Invalid("the request is not valid HTTP")
	}
	if body == "" {
		request.Body = nil
	}
	for _, each := range fields {
		name := strings.ToLower(each.name)
		switch {
		case !isToken(each.name):
			return nil, host.Invalid(shown(firstRunes(each.name, 60)) + " is not a valid name of a header")
		case notForGuests[name]:
			return nil, host.Invalid("the header " + name + " cannot be set; it follows from the URL, the body or the connection")
		case !isFieldValue(each.value):
			return nil, host.Invalid("the value of the header " + name + " has an invalid character")
		}
		request.Header.Add(each.name, each.value)
	}
	return request, nil
}

// credentialWords are in the names of headers that are not sent to another origin.
var credentialWords = []string{"auth", "cookie", "key", "token", "secret", "password", "credential", "signature", "session"}

// redirected is the next request, if an answer is a redirect.
func redirected(request *http.Request, response *http.Response, body string) (*http.Request, *host.Failure) {
	method := request.Method
	dropsBody := false
	switch response.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound:
		dropsBody = method == "POST"
	case http.StatusSeeOther:
		dropsBody = method != "GET" && method != "HEAD"
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	location := response.Header.Get("Location")
	if location == "" {
		return nil, nil
	}
	target, err := request.URL.Parse(location)
	if err != nil {
		return nil, host.Invalid("the server redirects to an invalid URL")
	}
	if target.Scheme != "http" && target.Scheme != "https" {
		return nil, host.Invalid("the URL of a redirect must begin with http:// or https://")
	}
	if dropsBody {
		method, body = "GET", ""
	}
	next, err := http.NewRequest(method, target.String(), strings.NewReader(body))
	if err != nil {
		return nil, host.Invalid("the server redirects to an invalid URL")
	}
	if body == "" {
		next.Body = nil
	}
	next.Header = request.Header.Clone()
	if dropsBody {
		for _, name := range []string{"Type", "Encoding", "Language", "Location", "Disposition"} {
			next.Header.Del("Content-" + name)
		}
	}
	if target.Scheme != request.URL.Scheme || target.Host != request.URL.Host {
		maps.DeleteFunc(next.Header, func(name string, _ []string) bool {
			return slices.ContainsFunc(credentialWords, func(word string) bool {
				return strings.Contains(strings.ToLower(name), word)
			})
		})
	}
	return next, nil
}

// fetched is an answer as http_fetch gives it.
func fetched(response *http.Response) ([]byte, *host.Failure) {
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, fetchBodyMaxBytes+1))
	if err != nil {
		return nil, host.Invalid("the server closed the connection before the end of its answer")
	}
	told := struct {
		Status     int                 `json:"status"`
		Headers    map[string][]string `json:"headers"`
		Body       *string             `json:"body,omitempty"`
		BodyBase64 *string             `json:"body_base64,omitempty"`
	}{Status: response.StatusCode, Headers: map[string][]string{}}
	count, size := 0, 0
	for name, values := range response.Header {
		told.Headers[http.CanonicalHeaderKey(name)] = values
		for _, value := range values {
			count, size = count+1, size+len(name)+len(value)
		}
	}
	tooLarge := ""
	if count > fetchHeadersMax || size > fetchHeadersMaxBytes {
		tooLarge = "headers are too large"
	} else if len(body) > fetchBodyMaxBytes {
		tooLarge = "body is too large"
	}
	if tooLarge != "" {
		return nil, host.TooLarge(fmt.Sprintf("the answer's %s; the limits are %d headers of %d bytes together and a body of %d bytes",
			tooLarge, fetchHeadersMax, fetchHeadersMaxBytes, fetchBodyMaxBytes))
	}
	text := string(body)
	if utf8.Valid(body) {
		told.Body = &text
	} else {
		text = base64.StdEncoding.EncodeToString(body)
		told.BodyBase64 = &text
	}
	return encoded(told), nil
}

// field is one header.
type field struct{ name, value string }

// headerFields reads headers: a JSON object of strings or arrays of strings, in the order of their names.
func headerFields(text string, most, mostBytes int) ([]field, *host.Failure) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		return nil, host.Invalid("the headers are not a JSON object of strings: " + err.Error())
	}
	var fields []field
	size := 0
	for _, name := range slices.Sorted(maps.Keys(given)) {
		raw := given[name]
		if !bytes.HasPrefix(raw, []byte("[")) {
			raw = slices.Concat([]byte("["), raw, []byte("]"))
		}
		var values []*string
		if err := json.Unmarshal(raw, &values); err != nil || slices.Contains(values, nil) {
			return nil, host.Invalid("the header " + name + " is neither a string nor an array of strings")
		}
		for _, value := range values {
			size += len(name) + len(*value)
			fields = append(fields, field{name, *value})
		}
	}
	if len(fields) > most {
		return nil, host.TooLarge(fmt.Sprintf("there are %d headers, more than the limit of %d", len(fields), most))
	}
	if size > mostBytes {
		return nil, host.TooLarge(fmt.Sprintf("the headers have %d bytes, more than the limit of %d", size, mostBytes))
	}
	return fields, nil
}

// isToken tells RFC 9110's token, which methods and names of headers are.
func isToken(text string) bool {
	const others = "!#$%&'*+-.^_`|~"
	return text != "" && !strings.ContainsFunc(text, func(char rune) bool {
		isWord := '0' <= char && char <= '9' || 'a' <= char && char <= 'z' || 'A' <= char && char <= 'Z'
		return !isWord && !strings.ContainsRune(others, char)
	})
}

// isFieldValue tells what a header's value may be: no control characters but the tab.
func isFieldValue(text string) bool {
	return !strings.ContainsFunc(text, func(char rune) bool { return (char < ' ' && char != '\t') || char == 0x7f })
}
