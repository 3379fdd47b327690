// Command conformance does one case of what the SDK offers, which the request's path names, and answers with what it saw. The
// same cases run on a node and, by `go test`, on the fakes of package oramatest: both must see the same, which is kept in
// testdata/answers.json.
package main

import (
	"errors"
	"fmt"
	"orama"
	"os"
	"strings"
)

// saw is what a case saw, in order.
type saw []any

// add notes values; an error by its words and, where it has some, by its parts.
func (s *saw) add(values ...any) {
	for _, value := range values {
		*s = append(*s, plain(value))
	}
}

func plain(value any) any {
	var database *orama.DatabaseError
	var invoke *orama.InvokeError
	switch value := value.(type) {
	case []byte:
		return fmt.Sprintf("%q", value)
	case error:
		if errors.As(value, &database) {
			return []any{"database", database.Message, database.Code, database.Index}
		}
		if errors.As(value, &invoke) {
			return []any{"invoke", invoke.Function, invoke.Status, invoke.Code, invoke.Message, invoke.RequestID != ""}
		}
		return "error: " + value.Error()
	}
	return value
}

func main() {
	request, ok := orama.CurrentRequest()
	if !ok {
		called()
		return
	}
	name := strings.TrimPrefix(request.Path, "/")
	for _, group := range []map[string]func(*saw){databaseCases, serviceCases} {
		if run, ok := group[name]; ok {
			seen := saw{}
			run(&seen)
			if err := orama.WriteOutput(seen); err != nil {
				orama.Fail(err)
			}
			return
		}
	}
	if run, ok := webCases[strings.Split(name, "/")[0]]; ok {
		run(request)
		return
	}
	orama.Fail(orama.Error(404, "no such case: "+name))
}

// called is this program as the function that another one calls.
func called() {
	input, err := orama.ReadInput()
	if err != nil {
		orama.Fail(err)
	}
	switch word, rest, _ := strings.Cut(string(input), " "); word {
	case "echo":
		fmt.Print(rest)
	case "bytes":
		os.Stdout.Write([]byte{0xff, 0})
	case "fail":
		fmt.Print("half of the ")
		orama.Fail(errors.New("told to fail"))
	case "error":
		orama.Fail(orama.Error(404, "nothing here"))
	case "panic":
		panic("told to panic")
	case "caller":
		fmt.Print(orama.CallerSubject(), orama.Env("MY_VAR"))
	}
}
