package orama

import (
	"runtime"
	"unsafe"
)

func ptr(s string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(s)) }
func size(s string) uint32        { return uint32(len(s)) }

// keep stands behind a host call: until there the collector leaves the string where it is.
func keep(s string) { runtime.KeepAlive(s) }
