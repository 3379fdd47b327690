// Command wazero serves WASI commands: each module compiled once, one fresh instance per request, its stdin the body
// and its stdout the answer.
//
//	wazero [-cache DIR] NAME=FILE.wasm...
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

const (
	maxBody = 1 << 20
	// The limits that a function has on a node by default: 64 MB, 30 s.
	memoryPages = 64 << 20 / (64 << 10)
	timeout     = 30 * time.Second
)

func main() {
	cacheDir := flag.String("cache", "", "keeps compiled code here")
	flag.Parse()
	ctx := context.Background()
	// A function that computes must be stoppable, so calls look at their context.
	config := wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(true).WithMemoryLimitPages(memoryPages)
	// Or the exit of a guest with debug information has it read for a stack trace: some 10 ms for TinyGo's.
	config = config.WithDebugInfoEnabled(false)
	if *cacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(*cacheDir)
		if err != nil {
			log.Fatal(err)
		}
		config = config.WithCompilationCache(cache)
	}
	runtime := wazero.NewRuntimeWithConfig(ctx, config)
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	mux := http.NewServeMux()
	for _, argument := range flag.Args() {
		name, file, _ := strings.Cut(argument, "=")
		wasm, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		module, err := runtime.CompileModule(ctx, wasm)
		if err != nil {
			log.Fatal(err)
		}
		mux.HandleFunc("POST /"+name, invoke(runtime, module, name))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, mux))
}

func invoke(runtime wazero.Runtime, module wazero.CompiledModule, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		input, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		var output bytes.Buffer
		// An empty name, or instances would exclude one another.
		config := wazero.NewModuleConfig().WithName("").WithArgs(name).
			WithStdin(bytes.NewReader(input)).WithStdout(&output).WithStderr(io.Discard).
			WithSysWalltime().WithSysNanotime().WithSysNanosleep()
		instance, err := runtime.InstantiateModule(ctx, module, config)
		if instance != nil {
			defer instance.Close(ctx)
		}
		if exit, exited := err.(*sys.ExitError); exited && exit.ExitCode() == 0 {
			err = nil
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(output.Bytes())
	}
}
