package oramatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"orama/internal/host"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Message is what the function published.
type Message struct {
	// Topic is what it was published to.
	Topic string
	// Data is its JSON.
	Data json.RawMessage
	// Depth is the trigger depth of a function that the message would run: 1, or one more than that of the event that the function
	// was run for.
	Depth int
	// At is when it was published or, for one that waits, when it will be.
	At time.Time
}

// Decode reads the message into v.
func (m Message) Decode(v any) error { return json.Unmarshal(m.Data, v) }

// Published has the messages that were published, in order. One of PublishLater is among them when its time has come.
func (h *Host) Published() []Message { return h.messagesThat(false) }

// Later has the messages that wait for their time; Advance lets it pass.
func (h *Host) Later() []Message { return h.messagesThat(true) }

// messagesThat wait, or do not, by the time at which they are published.
func (h *Host) messagesThat(wait bool) []Message {
	h.changing.Lock()
	defer h.changing.Unlock()
	var all []Message
	now := h.now()
	for _, message := range h.messages {
		if message.At.After(now) == wait {
			all = append(all, message)
		}
	}
	return all
}

// store keeps messages in the order of their times.
func (h *Host) store(messages ...Message) {
	for _, message := range messages {
		at := len(h.messages)
		for at > 0 && h.messages[at-1].At.After(message.At) {
			at--
		}
		h.messages = append(h.messages[:at], append([]Message{message}, h.messages[at:]...)...)
	}
}

// depth is that of what this run publishes.
func (h *Host) depth() int {
	if h.run == nil {
		return 1
	}
	return h.run.depth + 1
}

// message makes the message of a host call.
func (h *Host) message(topic, data string) (Message, *host.Failure) {
	why := checkText("the topic", topic, topicMaxBytes)
	if why == nil && topic == "" {
		why = host.Invalid("the topic is empty")
	}
	if why == nil {
		why = checkText("the data", data, eventMaxBytes)
	}
	if why == nil && !json.Valid([]byte(data)) {
		why = host.Invalid("the data is not a JSON value")
	}
	return Message{Topic: topic, Data: json.RawMessage(data), Depth: h.depth(), At: h.now()}, why
}

// checkMessage holds the rule for topics, and the limit of an event.
func checkMessage(message Message) *host.Failure {
	topic := message.Topic
	isValid := len(topic) > 0 && len(topic) <= topicMaxBytes && strings.TrimSpace(topic) == topic &&
		!strings.ContainsFunc(topic, unicode.IsControl)
	switch {
	case !isValid:
		return host.Invalid(fmt.Sprintf("topic %s is not valid: it must have 1 to 256 bytes of UTF-8, no control characters, "+
			"and no white space at its ends", shown(topic)))
	case strings.HasPrefix(topic, "_orama/"):
		return host.Invalid(fmt.Sprintf(`topic %s is not valid: topics that begin with "_orama/" are reserved`, shown(topic)))
	case len(message.Data) > eventMaxBytes:
		return host.TooLarge(fmt.Sprintf("the data of an event may have at most %d bytes", eventMaxBytes))
	}
	return nil
}

// shown writes a text as the node shows one in a message.
func shown(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, char := range text {
		switch {
		case char == 0:
			out.WriteString(`\0`)
		case char == '"' || char == '\\' || char == '\n' || char == '\r' || char == '\t':
			quoted := strconv.QuoteRune(char)
			if char == '"' {
				quoted = `'\"'`
			}
			out.WriteString(quoted[1 : len(quoted)-1])
		case unicode.IsControl(char):
			fmt.Fprintf(&out, `\u{%x}`, char)
		default:
			out.WriteRune(char)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// PubsubPublish implements host.Host.
func (h node) PubsubPublish(topic, data string) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	message, why := h.message(topic, data)
	if why == nil {
		why = checkMessage(message)
	}
	if why != nil {
		h.failed("pubsub_publish", why)
		return 0
	}
	h.store(message)
	return 1
}

// PubsubPublishLater implements host.Host.
func (h node) PubsubPublishLater(topic, data string, delayMS int64) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	message, why := h.message(topic, data)
	if most := delayMax.Milliseconds(); why == nil && (delayMS < 0 || delayMS > most) {
		why = host.Invalid(fmt.Sprintf("the delay must be from 0 to %d ms (30 days), got %d", most, delayMS))
	}
	if why == nil {
		why = checkMessage(message)
	}
	if why != nil {
		h.failed("pubsub_publish_later", why)
		return 0
	}
	if message.Depth > depthMax {
		h.failed("pubsub_publish_later", host.Invalid(fmt.Sprintf("1 triggers did not fire: the depth limit of %d was reached", depthMax)))
		return 1
	}
	message.At = message.At.Add(time.Duration(delayMS) * time.Millisecond)
	h.store(message)
	return 1
}

// PubsubPublishBatch implements host.Host.
func (h node) PubsubPublishBatch(messages string) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	batch, why := h.batch(messages)
	if why != nil {
		h.failed("pubsub_publish_batch", why)
		return 0
	}
	h.store(batch...)
	return 1
}

func (h *Host) batch(text string) ([]Message, *host.Failure) {
	if why := checkText("the messages", text, batchMaxBytes); why != nil {
		return nil, why
	}
	var given []struct {
		Topic string          `json:"topic"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(text), &given); err != nil || given == nil {
		return nil, host.Invalid("the messages: they are no JSON array of objects")
	}
	if len(given) > batchMax {
		return nil, host.Invalid(fmt.Sprintf("a batch has at most %d messages, not %d", batchMax, len(given)))
	}
	var batch []Message
	for index, each := range given {
		message, why := h.message(each.Topic, string(bytes.TrimSpace(each.Data)))
		if why != nil {
			why.Message = fmt.Sprintf("message %d (counted from 0): %s", index, why.Message)
			return nil, why
		}
		batch = append(batch, message)
	}
	for _, message := range batch {
		if why := checkMessage(message); why != nil {
			return nil, why
		}
	}
	return batch, nil
}

// seqMark is what stands for the message's number in the data of ExecAndPublish.
const seqMark = "{{seq}}"

// messageWithSeq makes the message of ExecAndPublish. It must fit whatever its number is.
func (h *Host) messageWithSeq(topic, data string) (Message, *host.Failure) {
	const numberMaxBytes = 19
	message, why := h.message(topic, strings.ReplaceAll(data, seqMark, "0"))
	if why == nil {
		why = checkSize("the data", data, eventMaxBytes)
	}
	message.Data = json.RawMessage(data)
	if why == nil {
		why = checkMessage(message)
	}
	more := strings.Count(data, seqMark) * (numberMaxBytes - len(seqMark))
	if why == nil && len(data)+more > eventMaxBytes {
		why = host.TooLarge(fmt.Sprintf("the data of an event may have at most %d bytes, its numbers included", eventMaxBytes))
	}
	return message, why
}

// firstRunes is a text's beginning.
func firstRunes(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most])
}
