package oramatest

import (
	"fmt"
	"orama/internal/host"
	"strconv"
	"time"
)

// entry is a value of the cache. A zero end is none.
type entry struct {
	value []byte
	end   time.Time
}

// lookUp returns what is there at this time.
func (h *Host) lookUp(key string) (entry, bool) {
	found, ok := h.cached[key]
	if ok && !found.end.IsZero() && !h.now().Before(found.end) {
		delete(h.cached, key)
		return entry{}, false
	}
	return found, ok
}

func checkKey(key string) *host.Failure {
	if why := checkText("the key", key, cacheKeyMaxBytes); why != nil {
		return why
	}
	if key == "" {
		return host.Invalid("the key is empty")
	}
	return nil
}

// CacheGet implements host.Host.
func (h node) CacheGet(key string) []byte {
	h.changing.Lock()
	defer h.changing.Unlock()
	if why := checkKey(key); why != nil {
		h.failed("cache_get", why)
		return nil
	}
	found, _ := h.lookUp(key)
	return append([]byte(nil), found.value...)
}

// CacheSet implements host.Host.
func (h node) CacheSet(key, value string, ttlSeconds int64) {
	h.changing.Lock()
	defer h.changing.Unlock()
	why := checkKey(key)
	if why == nil {
		why = checkSize("the value", value, cacheValueMaxBytes)
	}
	if why == nil && ttlSeconds < 0 {
		why = host.Invalid(fmt.Sprintf("the TTL is %d s; it must be at least 0, and 0 means no expiry", ttlSeconds))
	}
	if why != nil {
		h.failed("cache_set", why)
		return
	}
	set := entry{value: []byte(value)}
	if ttlSeconds > 0 && ttlSeconds <= cacheTTLMaxSeconds {
		set.end = h.now().Add(time.Duration(ttlSeconds) * time.Second)
	}
	h.cached[key] = set
}

// CacheDelete implements host.Host.
func (h node) CacheDelete(key string) int32 {
	h.changing.Lock()
	defer h.changing.Unlock()
	if why := checkKey(key); why != nil {
		h.failed("cache_delete", why)
		return 0
	}
	delete(h.cached, key)
	return 1
}

// CacheIncrBy implements host.Host.
func (h node) CacheIncrBy(key string, delta int64) int64 {
	return h.increment("cache_incr_by", key, delta)
}

// CacheIncr implements host.Host.
func (h node) CacheIncr(key string) int64 { return h.increment("cache_incr", key, 1) }

func (h *Host) increment(call, key string, delta int64) int64 {
	h.changing.Lock()
	defer h.changing.Unlock()
	sum, why := h.add(key, delta)
	if why != nil {
		h.failed(call, why)
		return 0
	}
	return sum
}

// add adds to a number, which keeps its end.
func (h *Host) add(key string, delta int64) (int64, *host.Failure) {
	if why := checkKey(key); why != nil {
		return 0, why
	}
	found, ok := h.lookUp(key)
	if !ok {
		h.cached[key] = entry{value: strconv.AppendInt(nil, delta, 10)}
		return delta, nil
	}
	number, err := strconv.ParseInt(string(found.value), 10, 64)
	if err != nil || strconv.FormatInt(number, 10) != string(found.value) {
		return 0, host.Invalid("the value of this key is not a number; delete it or use another key")
	}
	sum := number + delta
	if (sum > number) != (delta > 0) && delta != 0 {
		return 0, host.Invalid("the sum exceeds 64 bits; the counter is unchanged")
	}
	h.cached[key] = entry{strconv.AppendInt(nil, sum, 10), found.end}
	return sum, nil
}
