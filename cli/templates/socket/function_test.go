package main

import (
	"orama/oramatest"
	"testing"
)

func TestMessagesAreCounted(t *testing.T) {
	host := oramatest.New(t)
	for number := int64(1); number <= 2; number++ {
		var reply Reply
		err := host.Run(main, Message{Text: "Hello"}).Decode(&reply)
		if want := (Reply{Text: "You said: Hello", Number: number}); err != nil || reply != want {
			t.Errorf("%+v, %v", reply, err)
		}
	}
}
