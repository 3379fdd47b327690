package orama

// RequestID returns the invocation's id, under which it is in the logs.
func RequestID() string {
	return string(take(hostGetRequestID()))
}

// CallerWallet returns the wallet address in the caller's verified token; empty for callers without a token.
func CallerWallet() string {
	return string(take(hostGetCallerWallet()))
}

// CallerSubject returns the "sub" claim of the caller's verified token; empty without a token.
func CallerSubject() string {
	return string(take(hostGetCallerJWTSubject()))
}

// CallerClaim returns a claim of the caller's verified token; empty when there is none.
func CallerClaim(name string) string {
	result := take(hostGetCallerClaim(ptr(name), size(name)))
	keep(name)
	return string(result)
}

// Env returns a variable of function.yaml's env; empty when it is not set.
func Env(key string) string {
	result := take(hostGetEnv(ptr(key), size(key)))
	keep(key)
	return string(result)
}

// Secret returns a secret of the namespace, as `orama function secrets set` stored it; empty when there is none.
func Secret(name string) string {
	result := take(hostGetSecret(ptr(name), size(name)))
	keep(name)
	return string(result)
}

// LogInfo adds a message to the invocation's log.
func LogInfo(message string) {
	hostLogInfo(ptr(message), size(message))
	keep(message)
}

// LogError adds a message of level error to the invocation's log.
func LogError(message string) {
	hostLogError(ptr(message), size(message))
	keep(message)
}
