# A user, with the active organization.
class User < ActiveRecord::Base
  has_secure_password
  has_many :memberships
end
