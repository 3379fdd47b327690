//go:build in_init

package main

var early seen

func init() { early = look() }

func whatWasSeen() seen { return early }
