// A program whose allocator lets other goroutines run. They write to the database while the host waits for memory, or one after
// another, and the program tells what each was answered and what is in the database afterwards.
package main

import (
	"encoding/json"
	"io"
	"os"
	"runtime"
	"sync"
	"unsafe"
)

//go:wasmimport env db_execute_v2
func hostExecute(sql unsafe.Pointer, sqlSize uint32, args unsafe.Pointer, argsSize uint32) uint64

//go:wasmimport env db_query
func hostQuery(sql unsafe.Pointer, sqlSize uint32, args unsafe.Pointer, argsSize uint32) uint64

//go:wasmimport env get_request_id
func hostRequestID() uint64

// given keeps blocks from the collector until they are taken.
var given = map[uint32][]byte{}

// allowed says whether the allocator gives way, and allocating whether it does now.
var allowed, allocating bool

//go:wasmexport orama_alloc
func oramaAlloc(size uint32) uint32 {
	if allowed {
		allocating = true
		for range 100 {
			runtime.Gosched()
		}
		allocating = false
	}
	block := make([]byte, max(size, 1))
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
	given[address] = block
	return address
}

func take(result uint64) string {
	address, size := uint32(result>>32), uint32(result)
	block := given[address]
	delete(given, address)
	return string(block[:size])
}

func call(f func(unsafe.Pointer, uint32, unsafe.Pointer, uint32) uint64, sql string) string {
	result := f(unsafe.Pointer(unsafe.StringData(sql)), uint32(len(sql)), nil, 0)
	runtime.KeepAlive(sql)
	return take(result)
}

// report is what the program tells.
type report struct {
	Answers []string `json:"answers"`
	Rows    string   `json:"rows"`
}

// within has a goroutine write while the allocator runs.
func within(insert string) []string {
	var answers []string
	done := make(chan bool)
	go func() {
		for !allocating {
			runtime.Gosched()
		}
		answers = append(answers, call(hostExecute, insert))
		close(done)
	}()
	allowed = true
	id := take(hostRequestID())
	allowed = false
	<-done
	if id == "" {
		panic("no request id")
	}
	return answers
}

// beside has many goroutines write, each of which needs its own answer.
func beside(insert string) []string {
	answers := make([]string, 50)
	var all sync.WaitGroup
	for n := range answers {
		all.Add(1)
		go func() {
			defer all.Done()
			runtime.Gosched()
			answers[n] = call(hostExecute, insert)
		}()
	}
	all.Wait()
	return answers
}

func main() {
	input, _ := io.ReadAll(os.Stdin)
	table := string(input)
	call(hostExecute, "CREATE TABLE "+table+" (n INTEGER PRIMARY KEY)")
	insert := "INSERT INTO " + table + " DEFAULT VALUES"
	var told report
	if table == "within" {
		told.Answers = within(insert)
	} else {
		told.Answers = beside(insert)
	}
	told.Rows = call(hostQuery, "SELECT n FROM "+table)
	json.NewEncoder(os.Stdout).Encode(told)
}
