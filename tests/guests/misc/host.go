package main

import (
	"runtime"
	"unsafe"
)

// given holds what oramaAlloc handed to the host, so that the collector keeps it until take.
var given = map[uint32][]byte{}

// oramaAlloc gives the host memory for a result.
//
//go:wasmexport orama_alloc
func oramaAlloc(size uint32) uint32 {
	block := make([]byte, max(size, 1))
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
	given[address] = block
	return address
}

// take returns the bytes behind a host function's i64: (pointer << 32) | length.
func take(packed uint64) string {
	address, size := uint32(packed>>32), uint32(packed)
	block := given[address]
	delete(given, address)
	if int(size) > len(block) {
		return ""
	}
	return string(block[:size])
}

func ptr(s string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(s)) }
func size(s string) uint32        { return uint32(len(s)) }

func logInfo(message string) {
	hostLogInfo(ptr(message), size(message))
	runtime.KeepAlive(message)
}

func logError(message string) {
	hostLogError(ptr(message), size(message))
	runtime.KeepAlive(message)
}

// out1 calls a host function that takes one string and returns bytes.
func out1(f func(unsafe.Pointer, uint32) uint64, a string) string {
	result := take(f(ptr(a), size(a)))
	runtime.KeepAlive(a)
	return result
}

// out2 calls a host function that takes two strings and returns bytes.
func out2(f func(unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint64, a, b string) string {
	result := take(f(ptr(a), size(a), ptr(b), size(b)))
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	return result
}

func callerContext(key, text string) map[string]any {
	if key == "" {
		key = "MY_VAR"
	}
	logInfo("info: " + text)
	logError("error: " + text)
	logInfo("")
	return map[string]any{
		"caller_wallet": take(hostGetCallerWallet()),
		"jwt_subject":   take(hostGetCallerJWTSubject()),
		"claim":         out1(getCallerClaim, key),
		"request_id":    take(hostGetRequestID()),
		"env":           out1(getEnv, key),
		"env_missing":   out1(getEnv, "no such variable"),
		"env_empty_key": out1(getEnv, ""),
		"leaked":        len(given), // blocks that the host asked for and did not return
	}
}

// unavailable calls the host functions of services, which a node may lack: each must answer its documented failure.
func unavailable() map[string]any {
	key, value := "k", "v"
	sql, args := "SELECT 1", "[]"
	hostCacheSet(ptr(key), size(key), ptr(value), size(value), 60)
	report := map[string]any{
		"get_secret":     out1(getSecret, "S"),
		"db_query":       out2(dbQuery, sql, args),
		"db_execute":     hostDBExecute(ptr(sql), size(sql), ptr(args), size(args)),
		"db_query_v2":    out2(dbQueryV2, sql, args),
		"db_execute_v2":  out2(dbExecuteV2, sql, args),
		"db_transaction": out1(dbTransaction, `{"ops":[{"kind":"exec","sql":"SELECT 1","args":[]}]}`),
		"db_query_batch": out1(dbQueryBatch, `{"ops":[{"kind":"query","sql":"SELECT 1","args":[]}],"consistency":"weak"}`),
		"cache_get":      out1(cacheGet, key),
		"cache_delete":   hostCacheDelete(ptr(key), size(key)),
		"cache_incr":     hostCacheIncr(ptr(key), size(key)),
		"cache_incr_by":  hostCacheIncrBy(ptr(key), size(key), 5),
		"http_fetch":     httpFetch("GET", "http://127.0.0.1:1/", "{}", ""),
		"storage_put":    out1(storagePut, "bytes"),
		"storage_get":    out1(storageGet, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
		"pubsub_publish": hostPubsubPublish(ptr(key), size(key), ptr(args), size(args)),
		"leaked":         len(given),
	}
	runtime.KeepAlive(value)
	return report
}

func httpFetch(method, url, headers, body string) string {
	result := take(hostHTTPFetch(ptr(method), size(method), ptr(url), size(url), ptr(headers), size(headers), ptr(body), size(body)))
	runtime.KeepAlive(method)
	runtime.KeepAlive(url)
	runtime.KeepAlive(headers)
	runtime.KeepAlive(body)
	return result
}

// An imported function is no func value, so each that is passed around has a wrapper.
func getCallerClaim(p unsafe.Pointer, n uint32) uint64 { return hostGetCallerClaim(p, n) }
func getEnv(p unsafe.Pointer, n uint32) uint64         { return hostGetEnv(p, n) }
func getSecret(p unsafe.Pointer, n uint32) uint64      { return hostGetSecret(p, n) }
func dbTransaction(p unsafe.Pointer, n uint32) uint64  { return hostDBTransaction(p, n) }
func dbQueryBatch(p unsafe.Pointer, n uint32) uint64   { return hostDBQueryBatch(p, n) }
func cacheGet(p unsafe.Pointer, n uint32) uint64       { return hostCacheGet(p, n) }
func storagePut(p unsafe.Pointer, n uint32) uint64     { return hostStoragePut(p, n) }
func storageGet(p unsafe.Pointer, n uint32) uint64     { return hostStorageGet(p, n) }

func dbQuery(p unsafe.Pointer, n uint32, q unsafe.Pointer, m uint32) uint64 {
	return hostDBQuery(p, n, q, m)
}

func dbQueryV2(p unsafe.Pointer, n uint32, q unsafe.Pointer, m uint32) uint64 {
	return hostDBQueryV2(p, n, q, m)
}

func dbExecuteV2(p unsafe.Pointer, n uint32, q unsafe.Pointer, m uint32) uint64 {
	return hostDBExecuteV2(p, n, q, m)
}
