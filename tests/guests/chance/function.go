// Command chance prints what should differ in each invocation: random numbers of all kinds, the order of a map, and clocks.
// The variable BEFORE_MAIN has it do something before main that an invocation may not share with another.
package main

import (
	crypto "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"hash/maphash"
	"io"
	"math/rand"
	randv2 "math/rand/v2"
	"os"
	"time"
	_ "unsafe" // For go:linkname.
)

// What the start leaves behind.
var (
	start = nanotime()
	early = map[string]int{}
	kept  any
)

func init() {
	switch os.Getenv("BEFORE_MAIN") {
	case "v1":
		kept = rand.Int63()
	case "v2":
		kept = randv2.Perm(20)
	case "hash":
		kept = new(maphash.Hash).Sum64()
	case "crypto":
		kept = crypto.Text()
	case "map":
		// It stays on the stack, so the compiler has this function draw its seed.
		seen := map[string]bool{}
		for i := range os.Args[0] {
			seen[os.Args[0][:i]] = true
		}
		kept = len(seen)
	case "today":
		kept = time.Now().UnixNano()
	default:
		kept = os.Getenv("MY_VAR")
	}
}

// nanotime reads the monotonic clock, and not the time of day.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

func main() {
	if _, err := io.ReadAll(os.Stdin); err != nil {
		panic(err)
	}
	var secret [16]byte
	if _, err := crypto.Read(secret[:]); err != nil {
		panic(err)
	}
	numbers := map[int]bool{}
	for i := range 32 {
		numbers[i] = true
	}
	order := []int{}
	for i := range numbers {
		order = append(order, i)
	}
	for i := range 20 {
		early[string(rune('a'+i))] = i
	}
	output, err := json.Marshal(map[string]any{
		"crypto":  hex.EncodeToString(secret[:]),
		"v1":      rand.Int63(),
		"v2":      randv2.Uint64(),
		"pcg":     randv2.New(randv2.NewPCG(randv2.Uint64(), randv2.Uint64())).Uint64(),
		"order":   order,
		"now":     time.Now().UnixNano(),
		"elapsed": nanotime() - start,
		"kept":    kept,
	})
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(output)
}
