// A function that notes to which device the calls of a user go; call-push-handler reads what it stores.
package main

import (
	"errors"
	"orama"
)

const schema = `CREATE TABLE IF NOT EXISTS devices (
	push_token TEXT PRIMARY KEY,
	user_id TEXT NOT NULL,
	device_type TEXT NOT NULL CHECK (device_type IN ('android', 'ios'))
)`

// Device is what an app sends when it starts: {"userId": "user123", "pushToken": "abc", "deviceType": "ios"}.
type Device struct {
	UserID     string `json:"userId"`
	PushToken  string `json:"pushToken"`
	DeviceType string `json:"deviceType"`
}

func main() {
	orama.Handle(func(device Device) (any, error) {
		if device.UserID == "" || device.PushToken == "" {
			return nil, errors.New("userId and pushToken must be given")
		}
		// A device belongs to whoever used it last.
		_, _, err := orama.Transaction(
			orama.Exec(schema),
			orama.Exec("CREATE INDEX IF NOT EXISTS devices_by_user ON devices (user_id)"),
			orama.Exec("INSERT OR REPLACE INTO devices (push_token, user_id, device_type) VALUES (?, ?, ?)",
				device.PushToken, device.UserID, device.DeviceType),
		)
		return map[string]string{"status": "registered"}, err
	})
}
