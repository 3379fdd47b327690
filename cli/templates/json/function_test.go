package main

import (
	"orama/oramatest"
	"testing"
)

func TestGreetsByName(t *testing.T) {
	host := oramatest.New(t)
	for name, want := range map[string]string{"Ann": "Hello, Ann!", "": "Hello, World!"} {
		var out Output
		if err := host.Run(main, Input{Name: name}).Decode(&out); err != nil || out.Message != want {
			t.Errorf("%q: %q, %v", name, out.Message, err)
		}
	}
}
