//go:build !tinygo

package main

import (
	"net"
	"time"
)

func network(try func(string, error)) {
	// Standard Go's wasip1 port has its own in-process network: what is tried here must not leave it.
	_, err := net.DialTimeout("tcp", "127.0.0.1:80", time.Second)
	try("dial", err)
	_, err = net.LookupHost("localhost.invalid")
	try("lookup", err)
}
