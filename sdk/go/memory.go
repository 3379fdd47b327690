package orama

import (
	"runtime"
	"unsafe"
)

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

func ptr(s string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(s)) }
func size(s string) uint32        { return uint32(len(s)) }

// keep stands behind a host call: until there the collector leaves the string where it is.
func keep(s string) { runtime.KeepAlive(s) }
