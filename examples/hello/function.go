// A function: it reads JSON from standard input and writes JSON to standard output.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Input is what a caller sends: {"name": "World"}.
type Input struct {
	Name string `json:"name"`
}

// Output is what the caller gets back.
type Output struct {
	Message string `json:"message"`
}

func main() {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail("reading the input", err)
	}
	input := Input{Name: "World"}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &input); err != nil {
			fail("the input is not the JSON this function expects", err)
		}
	}
	output, err := json.Marshal(Output{Message: "Hello, " + input.Name + "!"})
	if err != nil {
		fail("writing the output", err)
	}
	os.Stdout.Write(output)
}

// fail ends the invocation with an error. What goes to standard error is in `orama function logs`.
func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	os.Exit(1)
}
