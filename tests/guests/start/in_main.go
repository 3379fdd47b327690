//go:build !in_init

package main

func whatWasSeen() seen { return look() }
