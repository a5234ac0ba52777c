# Who belongs to an organization, and with which role.
class Membership < ActiveRecord::Base
  belongs_to :user
end
