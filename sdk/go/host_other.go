//go:build !wasm

package orama

import "unsafe"

// Outside of WebAssembly there is no host: each function gives what it gives on a node without its service.

func hostGetCallerWallet() uint64                                           { return 0 }
func hostGetCallerJWTSubject() uint64                                       { return 0 }
func hostGetCallerClaim(unsafe.Pointer, uint32) uint64                      { return 0 }
func hostGetRequestID() uint64                                              { return 0 }
func hostGetEnv(unsafe.Pointer, uint32) uint64                              { return 0 }
func hostSnapshotPending() int32                                            { return 0 }
func hostGetSecret(unsafe.Pointer, uint32) uint64                           { return 0 }
func hostDBQueryV2(unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint64   { return 0 }
func hostDBExecuteV2(unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint64 { return 0 }
func hostDBTransaction(unsafe.Pointer, uint32) uint64                       { return 0 }
func hostDBQueryBatch(unsafe.Pointer, uint32) uint64                        { return 0 }
func hostCacheGet(unsafe.Pointer, uint32) uint64                            { return 0 }
func hostCacheSet(unsafe.Pointer, uint32, unsafe.Pointer, uint32, int64)    {}
func hostCacheDelete(unsafe.Pointer, uint32) int32                          { return 0 }
func hostCacheIncr(unsafe.Pointer, uint32) int64                            { return 0 }
func hostCacheIncrBy(unsafe.Pointer, uint32, int64) int64                   { return 0 }
func hostHTTPFetch(unsafe.Pointer, uint32, unsafe.Pointer, uint32, unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint64 {
	return 0
}
func hostStoragePut(unsafe.Pointer, uint32) uint64                                       { return 0 }
func hostStorageGet(unsafe.Pointer, uint32) uint64                                       { return 0 }
func hostPubsubPublish(unsafe.Pointer, uint32, unsafe.Pointer, uint32) int32             { return 0 }
func hostLogInfo(unsafe.Pointer, uint32)                                                 {}
func hostLogError(unsafe.Pointer, uint32)                                                {}
func hostHTTPRequest() uint64                                                            { return 0 }
func hostSetHTTPResponse(int32, unsafe.Pointer, uint32, unsafe.Pointer, uint32) int32    { return 0 }
func hostHTTPResponseStart(int32, unsafe.Pointer, uint32) int32                          { return 0 }
func hostHTTPResponseWrite(unsafe.Pointer, uint32) int32                                 { return 0 }
func hostPubsubPublishBatch(unsafe.Pointer, uint32) int32                                { return 0 }
func hostPubsubPublishLater(unsafe.Pointer, uint32, unsafe.Pointer, uint32, int64) int32 { return 0 }
func hostFunctionInvokeV2(unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint64         { return 0 }
func hostFunctionInvokeAsync(unsafe.Pointer, uint32, unsafe.Pointer, uint32) int32       { return 0 }
func hostExecAndPublish(unsafe.Pointer, uint32, unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint64 {
	return 0
}
