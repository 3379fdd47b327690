package oramatest

import (
	"fmt"
	"orama/internal/host"
	"time"
	"unicode/utf8"
)

// A node's limits, as docs/FUNCTIONS.md has them.
const (
	nameMaxBytes          = 4 << 10
	secretNameMaxBytes    = 63
	inputMaxBytes         = 1 << 20
	outputMaxBytes        = 8 << 20
	sqlMaxBytes           = 1 << 20
	argumentsMaxBytes     = 16 << 20
	argumentsMax          = 32_766
	statementsMax         = 100
	statementsMessageMax  = statementsMax - 2
	readsKeptMaxSeconds   = 3600
	cacheKeyMaxBytes      = 256
	cacheValueMaxBytes    = 1 << 20
	cacheTTLMaxSeconds    = 100 * 366 * 24 * 3600
	topicMaxBytes         = 256
	eventMaxBytes         = inputMaxBytes - 4<<10
	batchMax              = 100
	batchMaxBytes         = 4 << 20
	delayMax              = 30 * 24 * time.Hour
	depthMax              = 5
	objectMaxBytes        = 32 << 20
	urlMaxBytes           = 8 << 10
	fetchBodyMaxBytes     = 8 << 20
	fetchHeadersMax       = 100
	fetchHeadersMaxBytes  = 64 << 10
	redirectsMax          = 10
	answerHeadersMax      = 64
	answerHeadersMaxBytes = 16 << 10
)

// checkSize refuses what is larger than a limit.
func checkSize(what, data string, most int) *host.Failure {
	if len(data) > most {
		return host.TooLarge(fmt.Sprintf("%s has %d bytes, more than the limit of %d", what, len(data), most))
	}
	return nil
}

// checkText refuses what is larger than a limit, and what is no text.
func checkText(what, data string, most int) *host.Failure {
	if why := checkSize(what, data, most); why != nil {
		return why
	}
	if !utf8.ValidString(data) {
		return host.Invalid(what + " is not valid UTF-8")
	}
	return nil
}
