package orama

import (
	"os"
	"unsafe"
)

// The host's functions, as docs/FUNCTIONS.md has them. db_query, db_execute and function_invoke are left out: their
// second versions do the same and say what went wrong.

// oramaAlloc gives the host memory for an answer.
//
//go:wasmexport orama_alloc
func oramaAlloc(size uint32) uint32 {
	block := make([]byte, max(size, 1))
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
	given[address] = block
	return address
}

// given holds what oramaAlloc handed to the host, so that the collector keeps it until take.
var given = map[uint32][]byte{}

// take returns the bytes behind a host function's answer, (pointer << 32) | length; nil for none.
func take(packed uint64) []byte {
	address, length := uint32(packed>>32), uint32(packed)
	block, ok := given[address]
	if !ok || int(length) > len(block) {
		return nil
	}
	delete(given, address)
	return block[:length]
}

func exit(code int) { os.Exit(code) }

//go:wasmimport env get_caller_wallet
func hostGetCallerWallet() uint64

//go:wasmimport env get_caller_jwt_subject
func hostGetCallerJWTSubject() uint64

//go:wasmimport env get_caller_claim
func hostGetCallerClaim(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env get_request_id
func hostGetRequestID() uint64

//go:wasmimport env get_env
func hostGetEnv(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env snapshot_pending
func hostSnapshotPending() int32

//go:wasmimport env get_secret
func hostGetSecret(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env db_query_v2
func hostDBQueryV2(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) uint64

//go:wasmimport env db_execute_v2
func hostDBExecuteV2(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) uint64

//go:wasmimport env db_transaction
func hostDBTransaction(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env db_query_batch
func hostDBQueryBatch(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env cache_get
func hostCacheGet(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env cache_set
func hostCacheSet(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c int64)

//go:wasmimport env cache_delete
func hostCacheDelete(a unsafe.Pointer, aSize uint32) int32

//go:wasmimport env cache_incr
func hostCacheIncr(a unsafe.Pointer, aSize uint32) int64

//go:wasmimport env cache_incr_by
func hostCacheIncrBy(a unsafe.Pointer, aSize uint32, b int64) int64

//go:wasmimport env http_fetch
func hostHTTPFetch(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c unsafe.Pointer, cSize uint32, d unsafe.Pointer, dSize uint32) uint64

//go:wasmimport env storage_put
func hostStoragePut(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env storage_get
func hostStorageGet(a unsafe.Pointer, aSize uint32) uint64

//go:wasmimport env pubsub_publish
func hostPubsubPublish(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) int32

//go:wasmimport env pubsub_publish_batch
func hostPubsubPublishBatch(a unsafe.Pointer, aSize uint32) int32

//go:wasmimport env pubsub_publish_later
func hostPubsubPublishLater(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c int64) int32

//go:wasmimport env exec_and_publish
func hostExecAndPublish(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c unsafe.Pointer, cSize uint32) uint64

//go:wasmimport env function_invoke_v2
func hostFunctionInvokeV2(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) uint64

//go:wasmimport env function_invoke_async
func hostFunctionInvokeAsync(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) int32

//go:wasmimport env log_info
func hostLogInfo(a unsafe.Pointer, aSize uint32)

//go:wasmimport env log_error
func hostLogError(a unsafe.Pointer, aSize uint32)

//go:wasmimport env http_request
func hostHTTPRequest() uint64

//go:wasmimport env set_http_response
func hostSetHTTPResponse(status int32, a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) int32

//go:wasmimport env http_response_start
func hostHTTPResponseStart(status int32, a unsafe.Pointer, aSize uint32) int32

//go:wasmimport env http_response_write
func hostHTTPResponseWrite(a unsafe.Pointer, aSize uint32) int32
