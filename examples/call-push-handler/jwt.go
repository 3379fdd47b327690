package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"orama"
	"time"
)

// Apple takes a token for an hour, and refuses a provider that makes new ones more often than every 20 minutes.
const tokenLifetime = 40 * time.Minute

// providerToken is the JWT that shows Apple who sends: ES256, signed with the key of the developer account.
func providerToken() (string, error) {
	keyID, team := orama.Secret("APNS_KEY_ID"), orama.Secret("APNS_TEAM_ID")
	if keyID == "" || team == "" {
		return "", errors.New("the secrets APNS_KEY_ID and APNS_TEAM_ID are not both set")
	}
	cached := "apns-token:" + team + ":" + keyID
	if token, ok := orama.Cache.Get(cached); ok {
		return string(token), nil
	}
	key, err := privateKey(orama.Secret("APNS_KEY_PEM"))
	if err != nil {
		return "", errors.New("the secret APNS_KEY_PEM: " + err.Error())
	}
	token, err := sign(key, map[string]any{"alg": "ES256", "kid": keyID}, map[string]any{
		"iss": team,
		"iat": time.Now().Unix(),
	})
	if err == nil {
		orama.Cache.Set(cached, []byte(token), tokenLifetime)
	}
	return token, err
}

func sign(key *ecdsa.PrivateKey, header, claims map[string]any) (string, error) {
	text := ""
	for _, part := range []map[string]any{header, claims} {
		data, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		if text != "" {
			text += "."
		}
		text += base64.RawURLEncoding.EncodeToString(data)
	}
	hash := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:]), nil
}

// privateKey reads the .p8 file that Apple hands out: PKCS #8 with a key on the curve P-256. crypto/x509 reads it as well,
// but does not compile with TinyGo.
func privateKey(text string) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("it is not set, or not PEM")
	}
	var outer struct {
		Version   int
		Algorithm struct{ Key, Curve asn1.ObjectIdentifier }
		Key       []byte
	}
	if _, err := asn1.Unmarshal(block.Bytes, &outer); err != nil {
		return nil, errors.New("it is not a PKCS #8 key of an elliptic curve")
	}
	if !outer.Algorithm.Curve.Equal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}) {
		return nil, errors.New("its key is not on the curve P-256")
	}
	var inner struct {
		Version int
		Scalar  []byte
	}
	if _, err := asn1.Unmarshal(outer.Key, &inner); err != nil {
		return nil, errors.New("its key cannot be read")
	}
	curve := elliptic.P256()
	key := &ecdsa.PrivateKey{D: new(big.Int).SetBytes(inner.Scalar)}
	key.Curve = curve
	key.X, key.Y = curve.ScalarBaseMult(inner.Scalar)
	return key, nil
}
