package oramatest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"orama"
	"orama/internal/host"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// HandleFunction makes another function of the namespace, which orama.Invoke runs: answer gets its input and gives its output. An
// error is that of a function that failed; an *orama.InvokeError has its own status and code. Calls of "name@2" are answered by
// what handles that name, else by what handles "name". answer may run a program itself, by Run.
func (h *Host) HandleFunction(name string, answer func(input []byte) (output []byte, err error)) {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.functions[name] = answer
}

// Invocation is a run of another function that orama.InvokeAsync asked for. The host does not run it.
type Invocation struct {
	// Function is its name.
	Function string
	// Input is what it would read.
	Input []byte
}

// InvokedAsync has the runs of other functions that orama.InvokeAsync asked for, in order.
func (h *Host) InvokedAsync() []Invocation {
	h.changing.Lock()
	defer h.changing.Unlock()
	return append([]Invocation(nil), h.started...)
}

// FunctionInvokeV2 implements host.Host.
func (h node) FunctionInvokeV2(name, payload string) []byte {
	h.changing.Lock()
	why := checkSize("the payload", payload, inputMaxBytes)
	if why == nil {
		why = checkText("the function's name", name, nameMaxBytes)
	}
	if why != nil {
		h.changing.Unlock()
		return invoked(nil, &orama.InvokeError{Status: "error", Code: why.Code, Message: why.Message}, "")
	}
	answer, notFound := h.function(name)
	h.runs++
	id := fmt.Sprintf("run-%d", h.runs)
	h.changing.Unlock()
	if notFound != "" {
		return invoked(nil, &orama.InvokeError{Status: "error", Code: "FUNCTION_NOT_FOUND", Message: notFound}, "")
	}
	output, err := answer([]byte(payload))
	return invoked(output, err, id)
}

// function finds what answers for a function, or says why there is none.
func (h *Host) function(name string) (answer func([]byte) ([]byte, error), notFound string) {
	if answer, ok := h.functions[name]; ok {
		return answer, ""
	}
	base, which, hasWhich := strings.Cut(name, "@")
	isAlias := hasWhich && which != "live" && !isNumber(which)
	if answer, ok := h.functions[base]; ok && !isAlias {
		return answer, ""
	}
	if isAlias {
		return nil, fmt.Sprintf("there is no alias %s of a function %s in this namespace", shown(which), shown(base))
	}
	if hasWhich {
		return nil, fmt.Sprintf("there is no version %s of a function %s in this namespace", which, shown(base))
	}
	return nil, fmt.Sprintf("there is no function %s in this namespace", shown(base))
}

// isNumber says whether a text has digits and nothing else.
func isNumber(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

// isVersion says whether a text can be the number of a version.
func isVersion(text string) bool {
	number, err := strconv.ParseUint(text, 10, 32)
	return isNumber(text) && err == nil && number > 0
}

// invoked is the answer of function_invoke_v2.
func invoked(output []byte, err error, id string) []byte {
	told := struct {
		Status       string  `json:"status"`
		Output       *string `json:"output,omitempty"`
		OutputBase64 *string `json:"output_base64,omitempty"`
		Error        string  `json:"error"`
		Code         string  `json:"code"`
		RequestID    string  `json:"request_id"`
	}{Status: "success", RequestID: id}
	var failed *orama.InvokeError
	switch {
	case errors.As(err, &failed):
		told.Status, told.Code, told.Error = failed.Status, failed.Code, failed.Message
		if told.Status == "" {
			told.Status = "error"
		}
		if failed.RequestID != "" {
			told.RequestID = failed.RequestID
		}
	case err != nil:
		told.Status, told.Code, told.Error = "error", "FUNCTION_EXIT", err.Error()
	}
	if err != nil {
		output = nil
	}
	text := string(output)
	if utf8.Valid(output) {
		told.Output = &text
	} else {
		text = base64.StdEncoding.EncodeToString(output)
		told.OutputBase64 = &text
	}
	return encoded(told)
}

// functionName is the rule for names of functions.
var functionName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,62}$`)

// FunctionInvokeAsync implements host.Host.
func (h node) FunctionInvokeAsync(name, payload string) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	if why := h.start(name, payload); why != nil {
		h.failed("function_invoke_async", why)
		return 0
	}
	return 1
}

func (h *Host) start(name, payload string) *host.Failure {
	if why := checkSize("the payload", payload, eventMaxBytes); why != nil {
		return why
	}
	if why := checkText("the function's name", name, nameMaxBytes); why != nil {
		return why
	}
	if h.depth() > depthMax {
		return host.Invalid(fmt.Sprintf("the depth limit of %d was reached", depthMax))
	}
	base, which, hasWhich := strings.Cut(name, "@")
	if hasWhich && !isVersion(which) && !functionName.MatchString(which) {
		return host.Invalid("the text after the @ must be a version number from 1 on, or an alias")
	}
	if !functionName.MatchString(base) {
		return host.Invalid(fmt.Sprintf("function name %s is not valid: it must start with a letter, contain only letters, digits, "+
			"'-' and '_', and have at most 63 characters", shown(firstRunes(base, 126))))
	}
	if _, notFound := h.function(name); notFound != "" {
		return host.Invalid(strings.Replace(notFound, " of a function", " of function", 1))
	}
	h.started = append(h.started, Invocation{name, []byte(payload)})
	return nil
}

// Decode reads the input, which is JSON, into v.
func (i Invocation) Decode(v any) error { return json.Unmarshal(i.Input, v) }
