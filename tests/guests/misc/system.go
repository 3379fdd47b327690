package main

import (
	"crypto/rand"
	"encoding/hex"
	"os"
)

func random16() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "error: " + err.Error()
	}
	return hex.EncodeToString(b[:])
}

// files tries everything that a sandbox without files and sockets must refuse, and reports each error;
// an empty string is a success, which is a failure of the sandbox.
func files() map[string]string {
	report := map[string]string{}
	try := func(name string, err error) {
		if err == nil {
			report[name] = ""
		} else {
			report[name] = err.Error()
		}
	}
	_, err := os.Open("/etc/passwd")
	try("open", err)
	_, err = os.Open("../../etc/passwd")
	try("open_relative", err)
	try("write", os.WriteFile("/tmp/x", []byte("x"), 0o600))
	try("mkdir", os.Mkdir("/x", 0o700))
	try("remove", os.Remove("/tmp/x"))
	_, err = os.ReadDir("/")
	try("readdir", err)
	_, err = os.Stat(".")
	try("stat", err)
	network(try)
	return report
}
