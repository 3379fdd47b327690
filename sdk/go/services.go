package orama

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// Cache is the namespace's cache. What is there may go at any time; what must stay belongs into the database.
var Cache cache

type cache struct{}

// Get returns a value; false when there is none, or an empty one.
func (cache) Get(key string) ([]byte, bool) {
	value := take(hostCacheGet(ptr(key), size(key)))
	keep(key)
	return value, len(value) > 0
}

// Set stores a value for the time given, in whole seconds rounded up; 0 is until it is deleted or room is needed.
func (cache) Set(key string, value []byte, ttl time.Duration) {
	text := string(value)
	seconds := int64((ttl + time.Second - 1) / time.Second)
	hostCacheSet(ptr(key), size(key), ptr(text), size(text), seconds)
	keep(key)
	keep(text)
}

// Delete removes a value. It returns true if the key is gone, also if it never existed, and false if the call failed.
func (cache) Delete(key string) bool {
	result := hostCacheDelete(ptr(key), size(key))
	keep(key)
	return result == 1
}

// Incr adds 1 to a counter, which starts at 0, and returns what it is now. No two calls get the same.
func (cache) Incr(key string) int64 {
	result := hostCacheIncr(ptr(key), size(key))
	keep(key)
	return result
}

// IncrBy adds delta to a counter, which starts at 0, and returns what it is now.
func (cache) IncrBy(key string, delta int64) int64 {
	result := hostCacheIncrBy(ptr(key), size(key), delta)
	keep(key)
	return result
}

// Request is an HTTP request to the outside.
type Request struct {
	// Method is GET when it is empty.
	Method string
	// URL begins with http:// or https://.
	URL string
	// Headers by name.
	Headers map[string]string
	// Body may be empty.
	Body []byte
}

// Response is the answer to a Request, whatever its status.
type Response struct {
	// Status is the HTTP status.
	Status int
	// Headers by name, written as in Content-Type.
	Headers map[string][]string
	// Body is the whole body.
	Body []byte
}

// Header returns the first value of a header, whose name may be written in any case; empty when it is not there.
func (r *Response) Header(name string) string {
	for key, values := range r.Headers {
		if strings.EqualFold(key, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// Fetch sends an HTTP request and waits for its answer, at most 30 seconds and never past the invocation's own timeout. An
// answer of any status is a Response; an error is a server that cannot be reached, or an address that functions may not
// reach.
func Fetch(request Request) (*Response, error) {
	method := request.Method
	if method == "" {
		method = "GET"
	}
	headers := "{}"
	if len(request.Headers) > 0 {
		data, err := json.Marshal(request.Headers)
		if err != nil {
			return nil, err
		}
		headers = string(data)
	}
	url, body := request.URL, string(request.Body)
	result := take(hostHTTPFetch(ptr(method), size(method), ptr(url), size(url), ptr(headers), size(headers), ptr(body), size(body)))
	keep(method)
	keep(url)
	keep(headers)
	keep(body)
	return decodeResponse(result)
}

func decodeResponse(data []byte) (*Response, error) {
	var answer struct {
		Status     int                 `json:"status"`
		Headers    map[string][]string `json:"headers"`
		Body       string              `json:"body"`
		BodyBase64 *string             `json:"body_base64"`
		Error      string              `json:"error"`
	}
	if err := decode(data, &answer); err != nil {
		return nil, err
	}
	if answer.Status == 0 {
		return nil, failure("http: " + answer.Error)
	}
	response := &Response{answer.Status, answer.Headers, []byte(answer.Body)}
	if answer.BodyBase64 != nil {
		body, err := base64.StdEncoding.DecodeString(*answer.BodyBase64)
		if err != nil {
			return nil, failure("http: the body was not understood: " + err.Error())
		}
		response.Body = body
	}
	return response, nil
}

// StoragePut stores bytes, at most 32 MiB, and returns their content id.
func StoragePut(data []byte) (cid string, err error) {
	text := string(data)
	result := take(hostStoragePut(ptr(text), size(text)))
	keep(text)
	if len(result) == 0 {
		return "", failure("storage: the bytes were not stored; the log says why")
	}
	return string(result), nil
}

// StorageGet returns what this namespace stored under a content id; false when it stored nothing there, or nothing at all.
func StorageGet(cid string) ([]byte, bool) {
	result := take(hostStorageGet(ptr(cid), size(cid)))
	keep(cid)
	return result, len(result) > 0
}

// Publish sends a message to a topic: v as JSON (a json.RawMessage as it is). When it returns without an error the message
// is stored, and functions with a trigger on the topic run for it.
func Publish(topic string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return failure("pubsub: the message cannot be sent: " + err.Error())
	}
	message := string(data)
	accepted := hostPubsubPublish(ptr(topic), size(topic), ptr(message), size(message))
	keep(topic)
	keep(message)
	if accepted != 1 {
		return failure("pubsub: the message to " + topic + " was not accepted; the log says why")
	}
	return nil
}
