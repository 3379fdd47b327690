// A function that makes phones ring: for each call invite on its topic it sends a push notification to the callee's devices.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"orama"
	"strconv"
	"time"
)

// Invite is the message that an app publishes when somebody calls.
type Invite struct {
	CalleeID   string `json:"calleeId"`
	CallerName string `json:"callerName"`
	CallType   string `json:"callType"`
}

// Device is a row of the table that register-device fills.
type Device struct {
	Token string `json:"push_token"`
	Type  string `json:"device_type"`
}

// Result is the function's output.
type Result struct {
	Status string `json:"status"`
	Callee string `json:"callee"`
	Sent   int    `json:"sent"`
}

func main() { orama.Handle(ring) }

func ring(event orama.Event) (Result, error) {
	var invite Invite
	if err := event.Decode(&invite); err != nil {
		return Result{}, err
	}
	if invite.CalleeID == "" {
		return Result{}, errors.New("the invite has no calleeId")
	}
	var devices []Device
	err := orama.QueryInto(&devices, "SELECT push_token, device_type FROM devices WHERE user_id = ?", invite.CalleeID)
	if err != nil {
		return Result{}, err
	}
	result := Result{Status: "sent", Callee: invite.CalleeID}
	failed := 0
	for _, device := range devices {
		if err := send(device, invite, event); err != nil {
			orama.LogError("push to a device of " + invite.CalleeID + ": " + err.Error())
			failed++
		} else {
			result.Sent++
		}
	}
	if failed > 0 {
		// A failure is tried again as function.yaml says; devices that were reached do not ring twice.
		return Result{}, errors.New(strconv.Itoa(failed) + " of " + strconv.Itoa(len(devices)) + " pushes failed")
	}
	if len(devices) == 0 {
		result.Status = "no devices"
		orama.LogInfo("No devices of " + invite.CalleeID)
		return result, nil
	}
	orama.LogInfo("Push sent to " + invite.CalleeID)
	return result, nil
}

func send(device Device, invite Invite, event orama.Event) error {
	// The same in every attempt at this event, and in a replay.
	hash := sha256.Sum256([]byte(device.Token + "\n" + strconv.FormatInt(event.Timestamp, 10) + "\n" + string(event.Data)))
	done := "rung:" + hex.EncodeToString(hash[:])
	if _, already := orama.Cache.Get(done); already {
		return nil
	}
	var request orama.Request
	var err error
	switch device.Type {
	case "android":
		request, err = fcm(device.Token, invite)
	case "ios":
		request, err = apns(device.Token, invite)
	default:
		err = errors.New("no push service for device type " + device.Type)
	}
	if err != nil {
		return err
	}
	response, err := orama.Fetch(request)
	if err != nil {
		return err
	}
	if gone(device, response) {
		orama.LogInfo("A device of " + invite.CalleeID + " is not registered any more")
		_, err := orama.Execute("DELETE FROM devices WHERE push_token = ?", device.Token)
		return err
	}
	if response.Status < 200 || response.Status > 299 {
		return errors.New(device.Type + " push service answered " + strconv.Itoa(response.Status) + ": " + shorten(response.Body))
	}
	orama.Cache.Set(done, []byte("1"), time.Hour)
	return nil
}

// gone tells whether the push service does not know the device any more: trying again would not help.
func gone(device Device, response *orama.Response) bool {
	return device.Type == "ios" && response.Status == 410 || device.Type == "android" && response.Status == 404
}

// fcm makes the request of Firebase Cloud Messaging's HTTP v1 API.
func fcm(token string, invite Invite) (orama.Request, error) {
	key := orama.Secret("FCM_SERVER_KEY")
	if key == "" {
		return orama.Request{}, errors.New("the secret FCM_SERVER_KEY is not set")
	}
	body, err := json.Marshal(map[string]any{
		"message": map[string]any{
			"token":   token,
			"android": map[string]any{"priority": "high", "ttl": "30s"},
			"data":    map[string]string{"callerName": invite.CallerName, "callType": invite.CallType},
		},
	})
	return orama.Request{
		Method: "POST",
		URL:    base("https://fcm.googleapis.com") + "/v1/projects/" + orama.Env("FCM_PROJECT") + "/messages:send",
		Headers: map[string]string{
			"authorization": "Bearer " + key,
			"content-type":  "application/json",
		},
		Body: body,
	}, err
}

// apns makes the request of the Apple Push Notification service.
func apns(token string, invite Invite) (orama.Request, error) {
	jwt, err := providerToken()
	if err != nil {
		return orama.Request{}, err
	}
	body, err := json.Marshal(map[string]any{
		"aps":        map[string]any{},
		"callerName": invite.CallerName,
		"callType":   invite.CallType,
	})
	return orama.Request{
		Method: "POST",
		URL:    base("https://api.push.apple.com") + "/3/device/" + token,
		Headers: map[string]string{
			"authorization":   "bearer " + jwt,
			"apns-topic":      orama.Env("APNS_TOPIC"),
			"apns-push-type":  "voip",
			"apns-priority":   "10",
			"apns-expiration": "0",
		},
		Body: body,
	}, err
}

// base is where a push service is.
func base(real string) string {
	if url := orama.Env("PUSH_URL"); url != "" {
		return url
	}
	return real
}

func shorten(body []byte) string {
	if len(body) > 200 {
		body = body[:200]
	}
	return string(body)
}
