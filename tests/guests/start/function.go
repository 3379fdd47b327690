// Looks at everything that belongs to a request as early as a program can: in init, or first thing in main.
package main

import (
	"encoding/json"
	"io"
	"os"
	"time"
	"unsafe"
)

//go:wasmimport env get_request_id
func getRequestID() uint64

//go:wasmimport env get_caller_wallet
func getCallerWallet() uint64

//go:wasmimport env get_secret
func getSecret(name unsafe.Pointer, size uint32) uint64

//go:wasmimport env log_info
func logInfo(text unsafe.Pointer, size uint32)

var given = map[uint32][]byte{}

//go:wasmexport orama_alloc
func oramaAlloc(size uint32) uint32 {
	block := make([]byte, max(size, 1))
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
	given[address] = block
	return address
}

func take(packed uint64) string {
	address, size := uint32(packed>>32), uint32(packed)
	block := given[address]
	delete(given, address)
	return string(block[:size])
}

type seen struct {
	UnixNano  int64  `json:"unix_nano"`
	RequestID string `json:"request_id"`
	Wallet    string `json:"wallet"`
	Secret    string `json:"secret"`
	Input     string `json:"input"`
}

func text(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func look() seen {
	s := seen{UnixNano: time.Now().UnixNano()}
	logInfo(text("looked"))
	s.RequestID = take(getRequestID())
	s.Wallet = take(getCallerWallet())
	s.Secret = take(getSecret(text("S")))
	input, _ := io.ReadAll(os.Stdin)
	s.Input = string(input)
	return s
}

func main() {
	_ = json.NewEncoder(os.Stdout).Encode(whatWasSeen())
}
