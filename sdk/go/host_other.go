//go:build !wasm

package orama

import (
	"orama/internal/host"
	"os"
	"strings"
	"sync"
	"unsafe"
)

// Outside of WebAssembly, package oramatest plays the node. Without it, each function gives what it gives on a node without its
// service.

// answers holds what the host answered, by the number that stands for its address, until take.
var answers = struct {
	sync.Mutex
	given map[uint32][]byte
	last  uint32
}{given: map[uint32][]byte{}}

func give(answer []byte) uint64 {
	if len(answer) == 0 {
		return 0
	}
	answers.Lock()
	defer answers.Unlock()
	answers.last++
	answers.given[answers.last] = answer
	return uint64(answers.last)<<32 | uint64(uint32(len(answer)))
}

// take returns the bytes of an answer; nil for none.
func take(packed uint64) []byte {
	answers.Lock()
	defer answers.Unlock()
	address := uint32(packed >> 32)
	answer := answers.given[address]
	delete(answers.given, address)
	return answer
}

func text(data unsafe.Pointer, size uint32) string {
	return strings.Clone(unsafe.String((*byte)(data), size))
}

// bytesOf asks the host that plays the node.
func bytesOf(ask func(node host.Host) []byte) uint64 {
	if node := host.Current(); node != nil {
		return give(ask(node))
	}
	return 0
}

func numberOf[N int32 | int64](ask func(node host.Host) N) N {
	if node := host.Current(); node != nil {
		return ask(node)
	}
	return 0
}

func tell(what func(node host.Host)) {
	if node := host.Current(); node != nil {
		what(node)
	}
}

func exit(code int) {
	tell(func(node host.Host) { node.Exit(code) })
	os.Exit(code)
}

func hostGetCallerWallet() uint64     { return bytesOf(host.Host.GetCallerWallet) }
func hostGetCallerJWTSubject() uint64 { return bytesOf(host.Host.GetCallerJWTSubject) }
func hostGetRequestID() uint64        { return bytesOf(host.Host.GetRequestID) }
func hostHTTPRequest() uint64         { return bytesOf(host.Host.HTTPRequest) }
func hostSnapshotPending() int32      { return 0 }

func hostGetCallerClaim(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.GetCallerClaim(text(a, aSize)) })
}

func hostGetEnv(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.GetEnv(text(a, aSize)) })
}

func hostGetSecret(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.GetSecret(text(a, aSize)) })
}

func hostDBQueryV2(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.DBQueryV2(text(a, aSize), text(b, bSize)) })
}

func hostDBExecuteV2(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.DBExecuteV2(text(a, aSize), text(b, bSize)) })
}

func hostDBTransaction(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.DBTransaction(text(a, aSize)) })
}

func hostDBQueryBatch(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.DBQueryBatch(text(a, aSize)) })
}

func hostCacheGet(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.CacheGet(text(a, aSize)) })
}

func hostCacheSet(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c int64) {
	tell(func(node host.Host) { node.CacheSet(text(a, aSize), text(b, bSize), c) })
}

func hostCacheDelete(a unsafe.Pointer, aSize uint32) int32 {
	return numberOf(func(node host.Host) int32 { return node.CacheDelete(text(a, aSize)) })
}

func hostCacheIncr(a unsafe.Pointer, aSize uint32) int64 {
	return numberOf(func(node host.Host) int64 { return node.CacheIncr(text(a, aSize)) })
}

func hostCacheIncrBy(a unsafe.Pointer, aSize uint32, b int64) int64 {
	return numberOf(func(node host.Host) int64 { return node.CacheIncrBy(text(a, aSize), b) })
}

func hostHTTPFetch(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c unsafe.Pointer, cSize uint32, d unsafe.Pointer, dSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte {
		return node.HTTPFetch(text(a, aSize), text(b, bSize), text(c, cSize), text(d, dSize))
	})
}

func hostStoragePut(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.StoragePut(text(a, aSize)) })
}

func hostStorageGet(a unsafe.Pointer, aSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.StorageGet(text(a, aSize)) })
}

func hostPubsubPublish(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) int32 {
	return numberOf(func(node host.Host) int32 { return node.PubsubPublish(text(a, aSize), text(b, bSize)) })
}

func hostPubsubPublishBatch(a unsafe.Pointer, aSize uint32) int32 {
	return numberOf(func(node host.Host) int32 { return node.PubsubPublishBatch(text(a, aSize)) })
}

func hostPubsubPublishLater(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c int64) int32 {
	return numberOf(func(node host.Host) int32 { return node.PubsubPublishLater(text(a, aSize), text(b, bSize), c) })
}

func hostExecAndPublish(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32, c unsafe.Pointer, cSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte {
		return node.ExecAndPublish(text(a, aSize), text(b, bSize), text(c, cSize))
	})
}

func hostFunctionInvokeV2(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) uint64 {
	return bytesOf(func(node host.Host) []byte { return node.FunctionInvokeV2(text(a, aSize), text(b, bSize)) })
}

func hostFunctionInvokeAsync(a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) int32 {
	return numberOf(func(node host.Host) int32 { return node.FunctionInvokeAsync(text(a, aSize), text(b, bSize)) })
}

func hostLogInfo(a unsafe.Pointer, aSize uint32) {
	tell(func(node host.Host) { node.LogInfo(text(a, aSize)) })
}

func hostLogError(a unsafe.Pointer, aSize uint32) {
	tell(func(node host.Host) { node.LogError(text(a, aSize)) })
}

func hostSetHTTPResponse(status int32, a unsafe.Pointer, aSize uint32, b unsafe.Pointer, bSize uint32) int32 {
	return numberOf(func(node host.Host) int32 {
		return node.SetHTTPResponse(status, text(a, aSize), text(b, bSize))
	})
}

func hostHTTPResponseStart(status int32, a unsafe.Pointer, aSize uint32) int32 {
	return numberOf(func(node host.Host) int32 { return node.HTTPResponseStart(status, text(a, aSize)) })
}

func hostHTTPResponseWrite(a unsafe.Pointer, aSize uint32) int32 {
	return numberOf(func(node host.Host) int32 { return node.HTTPResponseWrite(text(a, aSize)) })
}
