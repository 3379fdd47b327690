// Command hello is the smallest useful function: a JSON object in, a greeting out.
package main

import (
	"encoding/json"
	"io"
	"os"
)

func main() {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	var request struct {
		Name string `json:"name"`
	}
	if len(input) > 0 {
		if err := json.Unmarshal(input, &request); err != nil {
			fail(err)
		}
	}
	if request.Name == "" {
		request.Name = "World"
	}
	output, err := json.Marshal(map[string]any{"result": "Hello, " + request.Name + "!"})
	if err != nil {
		fail(err)
	}
	os.Stdout.Write(output)
}

func fail(err error) {
	os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(1)
}
