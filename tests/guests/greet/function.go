// Command greet is hello written with the SDK.
package main

import "orama"

type request struct {
	Name string `json:"name"`
}

type answer struct {
	Result string `json:"result"`
}

func main() {
	orama.Handle(func(in request) (answer, error) {
		if in.Name == "" {
			in.Name = "World"
		}
		return answer{Result: "Hello, " + in.Name + "!"}, nil
	})
}
