// A function: it takes JSON and answers with JSON.
package main

import "orama"

// Input is what a caller sends: {"name": "World"}.
type Input struct {
	Name string `json:"name"`
}

// Output is what the caller gets back.
type Output struct {
	Message string `json:"message"`
}

func main() { orama.Handle(greet) }

// greet answers one call. An error fails the run; orama.Error(404, "no such person") is an answer with that status.
func greet(in Input) (Output, error) {
	if in.Name == "" {
		in.Name = "World"
	}
	return Output{Message: "Hello, " + in.Name + "!"}, nil
}
