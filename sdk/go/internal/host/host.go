// Package host is what package orama talks to outside of WebAssembly: the host functions of a node, played by package oramatest.
package host

import "sync/atomic"

// Host has the host functions that the SDK uses, each under its name. Texts and answers are those of docs/FUNCTIONS.md, so that
// the SDK reads what it would read on a node. A nil answer is the 0 of a node.
type Host interface {
	GetCallerWallet() []byte
	GetCallerJWTSubject() []byte
	GetCallerClaim(name string) []byte
	GetRequestID() []byte
	GetEnv(key string) []byte
	GetSecret(name string) []byte
	DBQueryV2(sql, args string) []byte
	DBExecuteV2(sql, args string) []byte
	DBTransaction(ops string) []byte
	DBQueryBatch(ops string) []byte
	CacheGet(key string) []byte
	CacheSet(key, value string, ttlSeconds int64)
	CacheDelete(key string) int32
	CacheIncr(key string) int64
	CacheIncrBy(key string, delta int64) int64
	HTTPFetch(method, url, headers, body string) []byte
	StoragePut(object string) []byte
	StorageGet(cid string) []byte
	PubsubPublish(topic, data string) int32
	PubsubPublishBatch(messages string) int32
	PubsubPublishLater(topic, data string, delayMS int64) int32
	ExecAndPublish(ops, topic, data string) []byte
	FunctionInvokeV2(name, payload string) []byte
	FunctionInvokeAsync(name, payload string) int32
	LogInfo(message string)
	LogError(message string)
	HTTPRequest() []byte
	SetHTTPResponse(status int32, headers, body string) int32
	HTTPResponseStart(status int32, headers string) int32
	HTTPResponseWrite(data string) int32
	// Exit ends the program, as os.Exit does. It does not return.
	Exit(code int)
}

var current atomic.Pointer[Host]

// Current returns the host that plays the node; nil without one.
func Current() Host {
	if playing := current.Load(); playing != nil {
		return *playing
	}
	return nil
}

// Play makes a host the one that plays the node; nil ends that.
func Play(playing Host) {
	if playing == nil {
		current.Store(nil)
		return
	}
	current.Store(&playing)
}
